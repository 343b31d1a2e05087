"""A reply on its way to a person in Feishu: as messages, or as a card that grows while the model writes.

The journal remembers every call that leaves a trace, so that any worker can go on where another one died.
Source: PROTOCOL.md, "Sending once" and "Streaming".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import ClassVar, TypeVar

from integrations.base import Journal, ReplyStream, ReplyTarget
from integrations.errors import OutcomeUnknown
from integrations.feishu import cards, refusals
from integrations.feishu.cards import Part
from integrations.feishu.client import FeishuClient
from integrations.feishu.refusals import FeishuError
from integrations.pacing import LONGEST_WAIT_S
from integrations.traffic import HeldBack

logger = logging.getLogger(__name__)

UUID_SAFE_S = 55 * 60  # the platform forgets a uuid after an hour
PATIENCE = 3  # waits for one call that is told to slow down
SEQUENCES_PER_HOLDER = 10_000
SEQUENCE_JUMP = 1_000

T = TypeVar("T")


class Outbox:
    """Sends messages to one target, each of them once."""

    def __init__(self, client: FeishuClient, target: ReplyTarget, journal: Journal) -> None:
        self.client, self.journal = client, journal
        self._target = target
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
        """Reply to the message; where that is impossible, send into the chat as a step of its own."""
        apart = f"{name}-apart" if self._target.message_id else name
        if self._replies and self.journal.find(apart) is None and self._is_replied(name, part):
            return
        if not self.is_done(name):
            receiver = self._receiver()
            pace = partial(self.client.pace, "send", chat_id=receiver[1])
            self._once(apart, pace, lambda uuid: self.client.send_message(*receiver, part, uuid))

    def _is_replied(self, name: str, part: Part) -> bool:
        question, chat_id = self._target.message_id, self._receiver()[1]
        pace = partial(self.client.pace, "reply", chat_id=chat_id)
        try:
            self._once(name, pace, lambda uuid: self.client.reply_message(question, part, uuid, chat_id))
        except FeishuError as error:
            if error.code not in refusals.REPLY_IMPOSSIBLE:
                raise
            self._replies = False
        return self._replies

    def _receiver(self) -> tuple[str, str]:
        chat_id = self._target.chat_id
        return ("chat_id", chat_id) if chat_id else ("open_id", self._target.sender_id)

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


class TextReply(ReplyStream):
    """The whole answer as one message, or several when it is long."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def show(self, text: str) -> None:
        """Nothing: a message cannot grow."""

    def finish(self, text: str) -> None:
        self._outbox.send_all(cards.parts(text))


class CardReply(ReplyStream):
    """One card per reply, made at the first text and taken over by a later holder; messages where cards are refused.

    ``sequence`` begins at ``fence`` times 10,000: a holder that lost the reply cannot overwrite the newer one.
    """

    interval_s: ClassVar[float] = 0.35  # the platform takes ten operations a second per card

    def __init__(self, outbox: Outbox, pause_s: float = 0.0) -> None:
        """``pause_s`` is the least time between two steps that are shown, where the month's quota is short."""
        self._outbox, self._client, self._journal = outbox, outbox.client, outbox.journal
        self._pause_s, self._shown_at = pause_s, float("-inf")
        self._card_id = ""
        self._shown = ""  # what the card holds, as far as we know
        self._is_streaming = True
        self._operations = 0

    def show(self, text: str) -> None:
        head = cards.preview(text)
        if not head or head == self._shown or not self._is_due():
            return
        self._shown_at, self._client.patience_s = time.monotonic(), 0.0
        with suppress(HeldBack):  # no room for this step: the next one shows its text too
            if self._is_open(head, streaming=True):
                self._put(head)

    def _is_due(self) -> bool:
        return not self._pause_s or time.monotonic() - self._shown_at > self._pause_s  # an infinite one never ends

    def finish(self, text: str) -> None:
        self._client.patience_s = LONGEST_WAIT_S
        if self._outbox.is_done("finished"):
            return
        head, rest = cards.fit(text)
        if self._outbox.is_done("card-closed"):
            self._outbox.send_all(rest, first=2)
        elif head and self._is_open(head, streaming=False):
            self._conclude(text, head, rest)
        else:
            self._outbox.send_all(cards.parts(text))
        self._outbox.note("finished")

    def _is_open(self, head: str, *, streaming: bool) -> bool:
        """Whether the card is visible, made now if need be. False once cards are refused, for every later holder."""
        if self._card_id:
            return True
        step = self._journal.find("card")
        if step and step.state == "refused":
            return False
        try:
            card_id = step.remote_id if step and step.state == "done" else self._created(head, streaming=streaming)
            self._outbox.send("card-sent", cards.card_part(card_id))
        except FeishuError as error:
            return self._without_cards(error)
        self._card_id = card_id
        return True

    def _created(self, head: str, *, streaming: bool) -> str:
        """Make the entity. Nobody sees it yet, so one too many does no harm."""
        pace = partial(self._client.pace, "create card")
        pace()
        self._journal.intend("card")
        card_id = patiently(lambda: self._client.create_card(cards.card(head, streaming=streaming)), pace)
        self._journal.done("card", card_id)
        self._shown, self._is_streaming = head, streaming
        return card_id

    def _without_cards(self, error: FeishuError) -> bool:
        if not error.permanent:
            raise error
        self._journal.refused("card", str(error))
        logger.warning("feishu refused a card, answering in text", extra={"code": error.code, "reason": str(error)})
        return False

    def _conclude(self, text: str, head: str, rest: tuple[Part, ...]) -> None:
        """Give the card its final text and end its streaming mode; what does not fit follows as messages."""
        try:
            patiently(lambda: self._put(head))
        except FeishuError as error:
            if not error.permanent:
                raise
            self._close(self._shown)
            self._outbox.send_all(cards.parts(text))
            return
        self._close(head)
        self._outbox.note("card-closed")
        self._outbox.send_all(rest, first=2)

    def _close(self, head: str) -> None:
        if not self._is_streaming:
            return
        try:
            patiently(lambda: self._settings(cards.closing_settings(head)))
        except FeishuError as error:
            if not error.permanent:
                raise
            logger.warning("a feishu card was not closed", extra={"code": error.code})  # it ends by itself in 10 min

    def _put(self, head: str) -> None:
        """Replace the card's text; streaming mode, which ends by itself after ten minutes, is switched on again."""
        if head == self._shown:
            return
        try:
            self._update(head)
        except FeishuError as error:
            if error.code not in refusals.STREAMING_OVER:
                raise
            self._settings(cards.reopening_settings())
            self._update(head)
        self._shown, self._is_streaming = head, True

    def _update(self, head: str) -> None:
        self._operate(lambda n: self._client.update_card_text(self._card_id, cards.ELEMENT_ID, head, n))

    def _settings(self, settings: str) -> None:
        self._operate(lambda n: self._client.update_card_settings(self._card_id, settings, n))

    def _operate(self, operation: Callable[[int], None]) -> None:
        """Make one numbered operation. A number that is used up is jumped over, within what this holder may use."""
        refusal: FeishuError | None = None
        while True:
            self._operations += 1
            try:
                return operation(self._journal.fence * SEQUENCES_PER_HOLDER + self._operations)
            except HeldBack as held:
                raise refusal or held from None
            except FeishuError as error:
                if error.code != refusals.SEQUENCE_USED or self._operations + SEQUENCE_JUMP >= SEQUENCES_PER_HOLDER:
                    raise
                refusal = error
                self._operations += SEQUENCE_JUMP


def patiently(call: Callable[[], T], pace: Callable[[], None] = lambda: None) -> T:
    """Make a call; when the platform says to slow down, wait as long as it wants and try again, a few times.

    ``pace`` does the waiting where the call does not do it by itself: the refusal has emptied the call's bucket.
    """
    for _ in range(PATIENCE):
        try:
            return call()
        except FeishuError as error:
            if not error.is_rate_limit:
                raise
            _wait_again(pace, error)
    return call()


def _wait_again(pace: Callable[[], None], error: FeishuError) -> None:
    try:
        pace()
    except HeldBack:  # the platform's own refusal says more, and that nothing was sent
        raise error from None
