"""A reply in DingTalk as one card that grows. A card has an id of ours, so one with a lost answer is asked about.

Steps in the journal: ``card`` is refused when messages take over for good, ``finished`` when the card was closed as
failed. Refused cards, and what a card cannot hold, go as messages.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress

from integrations.base import Journal, ReplyStream, Step
from integrations.dingtalk import cards, limits
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.refusals import NO_SUCH_CARD, Refused
from integrations.dingtalk.reply import PlainReply
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.pacing import LONGEST_WAIT_S
from integrations.traffic import HeldBack
from integrations.values import Credentials, ReplyTarget

MIN_GROWTH_CHARS = 20
MIN_PAUSE_S = 0.9  # a hair below ``interval_s``, so that a punctual caller is not skipped


class CardReply(ReplyStream):
    """One card that is written on while the model speaks."""

    def __init__(
        self,
        client: DingTalkClient,
        credentials: Credentials,
        target: ReplyTarget,
        journal: Journal,
        pause_s: float = 0.0,
        *,
        has_buttons: bool = False,
    ) -> None:
        """``pause_s`` is the least time between two steps that are shown, where the month's quota is short.

        ``has_buttons``: somebody waits for the buttons of the card's template.
        """
        self._client = client
        self._credentials = credentials
        self._target = target
        self._journal = journal
        self._pause_s = pause_s
        self._has_buttons = has_buttons
        self._plain = PlainReply(client, credentials, target, journal)
        step = journal.find("card")
        self._state = _state(step)
        self._key = step.key if step else ""
        self._shown_chars = 0
        self._shown_at = float("-inf")
        self._is_still = False  # full, or broken for good

    def show(self, text: str) -> None:
        if self._is_still:
            return
        content, rest = cards.card_text(text)
        self._is_still = bool(rest)
        if rest or not self._is_due(content):
            return
        self._shown_at, self._client.patience_s = time.monotonic(), 0.0
        try:
            if self._write(content, str(uuid.uuid4())):
                self._shown_chars = len(content)
        except HeldBack:
            return  # no room for this step: the next one shows its text too
        except PlatformError as problem:
            self._is_still = problem.permanent
            raise

    def finish(self, text: str) -> None:
        self._client.patience_s = LONGEST_WAIT_S
        content, rest = cards.card_text(text)
        if not self._close(content):
            self._plain.finish(text)
        elif rest:
            self._plain.finish(rest)

    def abandon(self, text: str) -> None:
        """Close a card that a worker left open, as failed. An empty text leaves what it shows."""
        finished = self._journal.find("finished")
        if self._state not in ("open", "unknown") or (finished and finished.state != "intended"):
            return
        guid = self._journal.intend("finished").key
        content, _rest = cards.card_text(text)
        try:
            self._client.stream_card(cards.card_update(self._track_id(), guid, content, is_error=True))
        except Refused as problem:
            if not problem.permanent:
                raise
            self._journal.refused("finished", str(problem))
        else:
            self._journal.done("finished")

    def _is_due(self, content: str) -> bool:
        has_grown = len(content) >= self._shown_chars + MIN_GROWTH_CHARS or not self._shown_chars
        pause_s = max(self._pause_s, MIN_PAUSE_S)  # an infinite one never ends
        return bool(content) and has_grown and time.monotonic() - self._shown_at > pause_s

    def _close(self, content: str) -> bool:
        """Write the card's last text; False when messages must carry the answer."""
        finished = self._journal.find("finished")
        if self._state == "absent":
            self._create(is_last=True)
        if self._state == "refused" or (finished and finished.state == "refused"):
            return False
        if finished and finished.state == "done":
            return True
        guid = self._journal.intend("finished").key
        try:
            is_written = self._write(content, guid, is_last=True)
        except Refused as problem:
            if not problem.permanent:
                raise
            return self._give_up(problem)
        if is_written:
            self._journal.done("finished")
        return is_written

    def _give_up(self, problem: Refused) -> bool:
        """DingTalk will never take this card's last text: close it as failed, as well as we can."""
        self._journal.refused("finished", str(problem))
        with suppress(Refused, HeldBack):  # then it stays open, and the answer still comes
            self._client.stream_card(cards.card_update(self._track_id(), str(uuid.uuid4()), "", is_error=True))
        return False

    def _write(self, content: str, guid: str, *, is_last: bool = False) -> bool:
        """Put a text on the card, creating it if need be; False when cards are refused for good.

        A card whose creation had a lost answer is found out by writing on it.
        """
        if self._state == "absent":
            self._create(is_last=is_last)
        if self._state != "refused" and not self._stream(content, guid, is_last):
            self._create(is_last=is_last)
            if self._state == "unknown" or (self._state == "open" and not self._stream(content, guid, is_last)):
                raise PlatformError("DingTalk does not say whether the card exists; it is tried again")
        return self._state != "refused"

    def _stream(self, content: str, guid: str, is_last: bool) -> bool:
        """Write on the card; False when DingTalk knows no such card. An empty last text closes it as failed."""
        is_error = is_last and not content
        is_final = is_last and not is_error
        try:
            self._client.stream_card(
                cards.card_update(self._track_id(), guid, content, is_final=is_final, is_error=is_error)
            )
        except Refused as problem:
            if problem.code == NO_SUCH_CARD:
                return False
            raise
        self._confirm()
        return True

    def _create(self, *, is_last: bool) -> None:
        """Put an empty card into the chat, always under the same id.

        At the last text every refusal sends the answer as messages, before it only a permanent one does.
        """
        route = self._client.card_route() if self._has_buttons else ""
        try:
            self._client.pace(limits.CREATE)
            body = cards.card(self._credentials, self._target, self._track_id(), route)
            self._client.create_and_deliver_card(body)
        except OutcomeUnknown:
            self._state = "unknown"
        except (Refused, HeldBack) as problem:
            self._refuse(problem, is_last=is_last)
        else:
            self._confirm()

    def _refuse(self, problem: Refused | HeldBack, *, is_last: bool) -> None:
        if not is_last and not problem.permanent:
            self._state = "absent"
            raise problem
        self._state = "refused"
        self._track_id()
        self._journal.refused("card", str(problem))

    def _confirm(self) -> None:
        if self._state != "open":
            self._state = "open"
            self._journal.done("card", self._track_id())

    def _track_id(self) -> str:
        """The card's id, noted in the journal before the first call that names it."""
        self._key = self._key or self._journal.intend("card").key
        return self._key


def _state(step: Step | None) -> str:
    """What is known about the card: absent, unknown (asked for, answer lost), open, or refused for good."""
    return {"intended": "unknown", "done": "open", "refused": "refused"}[step.state] if step else "absent"
