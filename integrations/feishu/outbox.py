"""Messages on their way to one place in Feishu, each of them once.

The journal remembers every call that leaves a trace, so that any worker can go on where another one died.
Source: PROTOCOL.md, "Sending once" and "When a message is refused".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from django.utils.translation import gettext as _

from integrations.base import Journal
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.feishu import cards, refusals
from integrations.feishu.cards import Part
from integrations.feishu.client import FeishuClient
from integrations.feishu.refusals import FeishuError
from integrations.traffic import HeldBack
from integrations.values import ReplyTarget

logger = logging.getLogger(__name__)

UUID_SAFE_S: Final = 55 * 60  # the platform forgets a uuid after an hour
PATIENCE: Final = 3  # waits for one call that is told to slow down
BUSY_S: Final = 1.0

T = TypeVar("T")


class Outbox:
    """Sends messages to one target, each of them once."""

    def __init__(self, client: FeishuClient, target: ReplyTarget, journal: Journal) -> None:
        self.client, self.target, self.journal = client, target, journal
        self._replies = bool(target.message_id)

    def is_done(self, name: str) -> bool:
        step = self.journal.find(name)
        return step is not None and step.state == "done"

    def note(self, name: str) -> None:
        self.journal.intend(name)
        self.journal.done(name)

    def send_all(self, parts: Iterable[Part], first: int = 1) -> None:
        for number, part in enumerate(parts, start=first):
            self.send(f"part-{number}", part)

    def send(self, name: str, part: Part) -> None:
        """Send one message. Rich text that Feishu does not take as such goes as plain text, as a step of its own."""
        plain = f"{name}-plain"
        try:
            if self.journal.find(plain) is None:
                return self._send(name, part)
        except FeishuError as error:
            self._tell_of_check(name, error)
            if part.msg_type != "post" or not refusals.is_about_form(error):
                raise
            logger.warning("feishu refused rich text, answering in plain text", extra={"code": error.code})
        return self._send(plain, cards.as_text(part))

    def _tell_of_check(self, name: str, error: FeishuError) -> None:
        """A person should not wait for an answer that Feishu will never let through."""
        if error.code in refusals.CENSORED:
            words = _("The answer cannot be shown here: a check of Feishu or of your company refused it.")
            with suppress(PlatformError):
                self._send(f"{name}-notice", cards.text_part(words))

    def _send(self, name: str, part: Part) -> None:
        """Reply to the message; where that is impossible, send into the chat as a step of its own."""
        apart = f"{name}-apart" if self.target.message_id else name
        if self._replies and self.journal.find(apart) is None and self._is_replied(name, part):
            return
        if not self.is_done(name):
            receiver = self._receiver()
            pace = partial(self.client.pace, "send", chat_id=receiver[1])
            self._once(apart, pace, lambda uuid: self.client.send_message(*receiver, part, uuid))

    def _is_replied(self, name: str, part: Part) -> bool:
        question, chat_id = self.target.message_id, self._receiver()[1]
        pace = partial(self.client.pace, "reply", chat_id=chat_id)
        try:
            self._once(name, pace, lambda uuid: self.client.reply_message(question, part, uuid, chat_id))
        except FeishuError as error:
            if error.code not in refusals.REPLY_IMPOSSIBLE:
                raise
            self._replies = False
        return self._replies

    def _receiver(self) -> tuple[str, str]:
        chat_id = self.target.chat_id
        return ("chat_id", chat_id) if chat_id else ("open_id", self.target.sender_id)

    def _once(self, name: str, pace: Callable[[], None], send: Callable[[str], str]) -> None:
        """Make one send, unless it is done. An earlier try of unknown outcome is repeated under its old uuid.

        Its turn comes before its intent: whoever dies while waiting leaves nothing that may have been sent.
        """
        if self.is_done(name):
            return
        pace()
        step = self.journal.intend(name)
        if not step.is_new and time.time() - step.first_tried_at_s > UUID_SAFE_S:
            raise OutcomeUnknown("Feishu: a send was interrupted too long ago to be repeated safely")
        try:
            message_id = patiently(lambda: send(step.key), pace)
        except FeishuError as error:
            if not step.is_new and error.permanent:
                raise OutcomeUnknown(f"{error}; an earlier try may have been shown") from error
            if step.is_new and error.is_refusal:
                self.journal.refused(name, str(error))
            raise
        self.journal.done(name, message_id)


def patiently(call: Callable[[], T], pace: Callable[[], None] = lambda: None) -> T:
    """Make a call; when the platform says to slow down, wait as long as it wants and try again, a few times.

    ``pace`` does the waiting where the call does not do it by itself: the refusal has emptied the call's bucket.
    """
    for _attempt in range(PATIENCE):
        try:
            return call()
        except FeishuError as error:
            if error.code in refusals.BUSY:
                time.sleep(BUSY_S)
            elif error.is_rate_limit:
                _wait_again(pace, error)
            else:
                raise
    return call()


def _wait_again(pace: Callable[[], None], error: FeishuError) -> None:
    try:
        pace()
    except HeldBack:  # the platform's own refusal says more, and that nothing was sent
        raise error from None
