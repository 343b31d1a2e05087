"""What a bot takes and says, against its rules: word lists, moderator, allowed link hosts.

A bot without any of them has a screen that does nothing and costs nothing. Every hit leaves an audit entry: which list,
which line of it, and a digest of the text, never the text itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bots import links, moderation
from bots.answers import Answer
from bots.leases import Lease
from bots.models import Message
from bots.moderation import Cut, Direction, NotJudged
from bots.sentences import say
from bots.text import storable
from bots.words import known
from bots.words.known import Lists
from bots.words.scanning import Hit, Matcher, Scan, covered
from inference.base import ChatMessage, GenRequest
from monitoring import audit, marks
from monitoring.context import Actor
from monitoring.ids import uuid7
from monitoring.models import AuditLog

MOST_NOTED: Final = 20  # rules of one text; the last entry tells of how many more


class Blocked(Exception):
    """The answer may not be said; ``text`` is what the person reads instead."""

    def __init__(self, text: str) -> None:
        super().__init__("the answer was blocked")
        self.text = text


def of(question: Message, lease: Lease) -> Screen:
    """The rules in force for this question."""
    bot = question.conversation.bot
    lists = known.of(bot)
    is_any = lists is not known.NONE or bot.moderator_id or bot.allowed_link_hosts
    return _Rules(question, lease, lists) if is_any else Screen()


class Screen:
    """Of a bot without rules."""

    def refusal(self, texts: Iterable[str]) -> Answer | None:
        """What is said instead of asking the model, if these words may not be answered."""
        return None

    def request(self, request: GenRequest) -> GenRequest:
        """What the model may see of the prompt."""
        return request

    def outgoing(self, show: Callable[[str], None]) -> Outgoing:
        return Outgoing(show)


class Outgoing:
    """One answer on its way out. ``seen`` is what was shown of it."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self.seen = show, ""

    def write(self, text: str) -> None:
        """Show what may be shown of the text so far. Raises Blocked."""
        self.seen = text
        self._show(text)

    def final(self, text: str) -> str:
        """The complete text as it may be said. Raises Blocked, NotJudged, Cut."""
        return text

    def arguments(self, text: str) -> str:
        """What a caller's tool is to be called with, as it may be said. Raises Blocked, NotJudged, Cut."""
        return text


class _Rules(Screen):
    def __init__(self, question: Message, lease: Lease, lists: Lists) -> None:
        self.question, self.lease, self.lists = question, lease, lists
        self.bot = question.conversation.bot
        self._noted: set[tuple[str, str, int]] = set()

    def refusal(self, texts: Iterable[str]) -> Answer | None:
        said = "\n\n".join(dict.fromkeys(text for text in texts if text.strip()))
        if self.lists.input and self.are_blocked(self.lists.input.hits(said), said, "input"):
            return self._refused()
        if not said or not moderation.is_wanted(self.bot, "input"):
            return None
        try:
            is_refused = self.is_refused_by_moderator(said, "input")
        except NotJudged as error:
            return Answer(say("not_judged"), "error", error=str(error))
        except Cut:
            return Answer("", "cancelled")
        return self._refused() if is_refused else None

    def request(self, request: GenRequest) -> GenRequest:
        """Masked are also the words of earlier messages that a list names by now, whatever it does with them."""
        matcher = self.lists.input
        if matcher is None:
            return request
        return replace(request, messages=tuple(_masked(message, matcher) for message in request.messages))

    def outgoing(self, show: Callable[[str], None]) -> Outgoing:
        return _Screened(self, show)

    def are_blocked(self, hits: Sequence[Hit], text: str, direction: Direction) -> bool:
        self._note(hits, text, direction)
        return any(hit.listed.action == "block" for hit in hits)

    def is_refused_by_moderator(self, text: str, direction: Direction) -> bool:
        if not moderation.is_refused(self.question, text, direction, self.lease):
            return False
        assert self.bot.moderator is not None
        facts = {"moderator": self.bot.moderator.name, "direction": direction, "content_mark": marks.of_content(text)}
        audit.record_many([self._entry("moderation.blocked", facts, is_refusal=True)])
        return True

    def _refused(self) -> Answer:
        self.question.details["is_blocked"] = True  # written when the question is settled
        return Answer(say("blocked"), "filtered")

    def _note(self, hits: Sequence[Hit], text: str, direction: Direction) -> None:
        """One entry for each rule and text."""
        fresh = {
            (direction, hit.listed.list_id, hit.listed.rule.line): hit
            for hit in hits
            if (direction, hit.listed.list_id, hit.listed.rule.line) not in self._noted
        }
        if not fresh or len(self._noted) >= MOST_NOTED:
            return
        told = list(fresh.values())[: MOST_NOTED - len(self._noted)]
        self._noted |= fresh.keys()
        mark = marks.of_content(text)
        audit.record_many([self._hit(hit, direction, mark, len(fresh) - len(told)) for hit in told])

    def _hit(self, hit: Hit, direction: Direction, mark: str, untold: int) -> AuditLog:
        listed = hit.listed
        facts: dict[str, object] = {
            "list": listed.list_name,
            "list_id": listed.list_id,
            "rule": f"line {listed.rule.line}",
            "direction": direction,
            "content_mark": mark,
        }
        past = {"block": "blocked", "mask": "masked", "warn": "noticed"}[listed.action]
        if untold:
            facts["further_rules"] = untold
        return self._entry(f"content.{past}", facts, is_refusal=listed.action == "block")

    def _entry(self, action: str, facts: Mapping[str, object], *, is_refusal: bool) -> AuditLog:
        actor = Actor("system", str(self.bot.pk), self.bot.slug)
        outcome: audit.Outcome = "refused" if is_refusal else "success"
        label = f"{self.question.role} message"
        return audit.entry(
            action, pk=uuid7(), actor=actor, target=self.question, target_label=label, changes=facts, outcome=outcome
        )


class _Screened(Outgoing):
    """Shows only what nothing that follows can change: a word that is split over pieces is never seen in part."""

    def __init__(self, rules: _Rules, show: Callable[[str], None]) -> None:
        super().__init__(show)
        self._rules = rules
        self._matcher = rules.lists.output
        self._scan = Scan(self._matcher) if self._matcher else None
        self._hits: list[Hit] = []
        self._read = 0
        self._is_judged_later = moderation.is_wanted(rules.bot, "output")

    def write(self, text: str) -> None:
        safe = self._safe(text)
        safe = links.shown(safe, self._rules.bot.allowed_link_hosts)
        if safe and not self._is_judged_later:
            super().write(safe)

    def final(self, text: str) -> str:
        return links.only_allowed(self._allowed(text), self._rules.bot.allowed_link_hosts)

    def arguments(self, text: str) -> str:
        """Programs read them: links stay, and what a mask has made unreadable is refused."""
        allowed = self._allowed(text)
        self._refuse_if(allowed != text and not _is_json(allowed))
        return allowed

    def _allowed(self, text: str) -> str:
        text = storable(text)
        if self._matcher:
            hits = self._matcher.hits(text)
            self._refuse_if(self._rules.are_blocked(hits, text, "output"))
            text = covered(text, _masking(hits))
        if self._is_judged_later and text.strip():
            self._refuse_if(self._rules.is_refused_by_moderator(text, "output"))
        return text

    def _safe(self, text: str) -> str:
        if self._scan is None:
            return text
        found = self._scan.feed(text[self._read :])
        self._read = len(text)
        self._hits += found
        if found:
            self._refuse_if(self._rules.are_blocked(found, text, "output"))
        return covered(text[: self._scan.settled], _masking(self._hits))

    def _refuse_if(self, is_refused: bool) -> None:
        """On the web, where pieces can only be added, what was seen stays before the polite word."""
        if not is_refused:
            return
        question = self._rules.question
        question.details["is_blocked"] = True
        stays = self.seen if question.platform == "web" else ""
        raise Blocked(f"{stays}\n\n{say('answer_blocked')}".strip())


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _masking(hits: Iterable[Hit]) -> list[Hit]:
    return [hit for hit in hits if hit.listed.action != "warn"]


def _masked(message: ChatMessage, matcher: Matcher) -> ChatMessage:
    if message.role not in ("user", "tool"):
        return message
    hits = _masking(matcher.hits(message.text))
    return replace(message, text=covered(message.text, hits)) if hits else message
