"""A reply as messages, and the sign that the bot is at work meanwhile.

Source: PROTOCOL.md, "Typing".
"""

from __future__ import annotations

import logging
from typing import Final

from integrations.base import ReplyStream
from integrations.errors import PlatformError
from integrations.feishu import cards
from integrations.feishu.outbox import Outbox
from integrations.feishu.refusals import FeishuError

logger = logging.getLogger(__name__)

EMOJI: Final = "Typing"
STEP: Final = "typing"


class Typing:
    """A reaction under the question while its answer is written. The journal lets a later holder take it away."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox, self._client, self._journal = outbox, outbox.client, outbox.journal

    @property
    def is_possible(self) -> bool:
        return bool(self._outbox.target.message_id)

    def begin(self) -> None:
        """Raises PlatformError."""
        step = self._journal.find(STEP)
        if not self.is_possible or (step and step.state == "done"):
            return
        with self._client.hurried():  # the answer may be ready, and waits for this to end
            self._client.pace("add reaction")
            self._journal.intend(STEP)
            try:
                self._journal.done(STEP, self._client.add_reaction(self._outbox.target.message_id, EMOJI))
            except FeishuError as error:
                self._journal.refused(STEP, str(error))
                raise

    def end(self) -> None:
        step = self._journal.find(STEP)
        if step is None or step.state != "done":
            return
        try:
            with self._client.hurried():
                self._client.remove_reaction(self._outbox.target.message_id, step.remote_id)
        except PlatformError as error:  # it is only a sign
            logger.info("a typing sign was not taken away", extra={"reason": str(error)})
        self._journal.refused(STEP, "taken away")  # nothing of it is seen any more


class TextReply(ReplyStream):
    """The whole answer as one message, or several when it is long."""

    def __init__(self, outbox: Outbox, *, shows_typing: bool = False) -> None:
        self._outbox, self._typing = outbox, Typing(outbox)
        self.shows_typing = shows_typing and self._typing.is_possible

    def begin(self) -> None:
        if self.shows_typing:
            self._typing.begin()

    def close(self) -> None:
        self._typing.end()

    def show(self, text: str) -> None:
        """Nothing: a message cannot grow."""

    def finish(self, text: str) -> None:
        self._outbox.send_all(cards.parts(text))
