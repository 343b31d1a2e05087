"""A reply as a card that grows while the model writes; as messages where cards are refused.

Source: PROTOCOL.md, "Streaming", "Buttons" and "When a message is refused".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

from integrations.base import ReplyStream
from integrations.errors import PlatformError
from integrations.feishu import actions, cards, refusals
from integrations.feishu.cards import Part
from integrations.feishu.outbox import Outbox, patiently
from integrations.feishu.refusals import FeishuError
from integrations.feishu.reply import Typing
from integrations.pacing import LONGEST_WAIT_S
from integrations.traffic import HeldBack
from integrations.values import NO_BUTTONS, Buttons

logger = logging.getLogger(__name__)

SEQUENCES_PER_HOLDER: Final = 10_000
SEQUENCE_JUMP: Final = 1_000
ABANDONED: Final = "…"  # in the list of chats, of a card whose text is kept


class CardReply(ReplyStream):
    """One card per reply, made at the first text and taken over by a later holder; messages where cards are refused.

    ``sequence`` begins at ``fence`` times 10,000: a holder that lost the reply cannot overwrite the newer one.
    """

    interval_s: ClassVar[float] = 0.35  # the platform takes ten operations a second per card

    def __init__(self, outbox: Outbox, pause_s: float = 0.0, buttons: Buttons = NO_BUTTONS) -> None:
        """``pause_s`` is the least time between two steps that are shown, where the month's quota is short."""
        self._outbox, self._client, self._journal = outbox, outbox.client, outbox.journal
        self._typing, self._buttons = Typing(outbox), buttons
        self._pause_s, self._shown_at = pause_s, float("-inf")
        self._card_id = ""
        self._shown = ""  # what the card holds, as far as we know
        self._is_streaming = True
        self._is_concluded = False
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
        row = actions.while_growing(self._buttons) if streaming else actions.when_complete(self._buttons)
        try:
            card_id = self._entity(cards.card(head, streaming=streaming, row=row), pace)
        except FeishuError as error:
            if row is None or error.code not in refusals.CARD_REFUSED:
                raise
            logger.warning("feishu refused a card, trying it without buttons", extra={"code": error.code})
            card_id, self._buttons = self._entity(cards.card(head, streaming=streaming), pace), NO_BUTTONS
        self._journal.done("card", card_id)
        self._shown, self._is_streaming = head, streaming
        return card_id

    def _entity(self, card: str, pace: Callable[[], None]) -> str:
        return patiently(lambda: self._client.create_card(card), pace)

    def _without_cards(self, error: FeishuError) -> bool:
        if not error.permanent:
            raise error
        self._journal.refused("card", str(error))
        logger.warning("feishu refused a card, answering in text", extra={"code": error.code, "reason": str(error)})
        with suppress(PlatformError):
            self._typing.begin()
        return False

    def abandon(self, text: str) -> None:
        """Close a card that a worker left open. One that Feishu does not let us close ends by itself in 10 minutes."""
        step = self._journal.find("card")
        is_shown = self._outbox.is_done("card-sent") or self._outbox.is_done("card-sent-apart")
        is_over = self._outbox.is_done("card-closed") or self._outbox.is_done("finished")
        if step is None or step.state != "done" or not is_shown or is_over:
            return
        self._card_id, self._client.patience_s = step.remote_id, LONGEST_WAIT_S
        head, _rest = cards.fit(text)
        try:
            if head:
                patiently(lambda: self._put(head))
            self._close(head or ABANDONED)
            if self._buttons == NO_BUTTONS:  # who abandons a card need not know what stands on it
                patiently(lambda: self._row(None))
        except FeishuError as error:
            if not error.permanent:
                raise
            logger.warning("an abandoned feishu card was not closed", extra={"code": error.code})
        self._outbox.note("finished")

    def close(self) -> None:
        """A card whose answer nobody will finish must not look as if it still grew."""
        if self._card_id and self._is_streaming and not self._is_concluded:
            self._client.patience_s = 0.0
            with suppress(PlatformError):
                self._close(self._shown)
        self._typing.end()

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
        self._is_concluded = True
        self._offer_votes()

    def _offer_votes(self) -> None:
        """Put thumbs in the place of the stop button. A card that refuses keeps its button, which then does nothing."""
        old, new = actions.while_growing(self._buttons), actions.when_complete(self._buttons)
        if old is None or old == new:
            return
        try:
            patiently(lambda: self._row(new))
        except PlatformError as error:
            logger.info("the buttons of a feishu card stay as they were", extra={"reason": str(error)})

    def _row(self, row: dict[str, Any] | None) -> None:
        name = actions.ELEMENT_ID
        if row is None:
            self._operate(lambda n: self._client.remove_card_element(self._card_id, name, n))
        else:
            self._operate(lambda n: self._client.replace_card_element(self._card_id, name, cards.as_json(row), n))

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
        self._shown, self._is_streaming, self._is_concluded = head, True, False

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
