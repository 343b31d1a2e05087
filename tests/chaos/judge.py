"""What people saw, judged against what they sent. Pure: histories in, a verdict out; knows no site and no network."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

TAG = re.compile(r"\bc\d+m\d+\b")
WITHOUT_ID = "dingtalk-plain"  # the kind of chat whose sends carry no id: the only one that may be unsure


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that a person sent; ``tag`` names it in its own text and in its answer. Times are monotonic seconds.

    ``began_s``: its first POST began. ``accepted_s``: its first 200 was received, None when none came.
    """

    tag: str
    chat: str
    kind: str
    answer: str
    began_s: float
    accepted_s: float | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One message or card in a chat, with its last text. ``done_s`` is None for a card that was never closed."""

    chat: str
    text: str
    first_s: float
    done_s: float | None


@dataclass(slots=True)
class Verdict:
    """The faults by kind, each as the tags (or, for strays, the texts) of what went wrong. Empty lists: a clean run."""

    asked: int = 0
    answered: int = 0
    refused: list[str] = field(default_factory=list)  # never got a 200
    lost: list[str] = field(default_factory=list)  # accepted, but nobody sees a complete answer
    doubled: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)  # seen before the answer to an earlier message was complete
    strays: list[str] = field(default_factory=list)  # apologies and empty cards
    unconfirmed: list[str] = field(default_factory=list)  # allowed, where a send was interrupted
    unexplained: list[str] = field(default_factory=list)  # unconfirmed where that may not be

    @property
    def faults(self) -> dict[str, list[str]]:
        names = ("refused", "lost", "doubled", "disordered", "strays", "unexplained")
        return {name: found for name in names if (found := getattr(self, name))}


def judge(
    asked: Sequence[Asked], shown: Sequence[Shown], statuses: Mapping[str, str], interrupted: Collection[str]
) -> Verdict:
    """``statuses``: tag -> the state of the message at the end. ``interrupted``: tags of sends that a kill cut off."""
    seen = _by_tag(shown)
    verdict = Verdict(asked=len(asked))
    verdict.strays = [f"{item.chat}: {item.text[:80]!r}" for item in _strays(asked, shown)]
    for message in asked:
        _judge_one(message, seen[message.chat, message.tag], statuses.get(message.tag, "absent"), verdict)
    verdict.unexplained = [tag for tag in verdict.unconfirmed if not _may_be_unsure(tag, asked, interrupted)]
    verdict.disordered = [tag for chat in _by_chat(asked) for tag in _disordered(chat, seen)]
    return verdict


def _judge_one(message: Asked, items: Sequence[Shown], status: str, verdict: Verdict) -> None:
    is_complete = any(item.text == message.answer and item.done_s is not None for item in items)
    verdict.answered += is_complete
    if message.accepted_s is None:
        verdict.refused.append(message.tag)
    if len(items) > 1:
        verdict.doubled.append(message.tag)
    if status == "unconfirmed":
        verdict.unconfirmed.append(message.tag)
    elif not is_complete and message.accepted_s is not None:
        verdict.lost.append(message.tag)


def _may_be_unsure(tag: str, asked: Sequence[Asked], interrupted: Collection[str]) -> bool:
    return tag in interrupted and any(message.tag == tag and message.kind == WITHOUT_ID for message in asked)


def _disordered(chat: Sequence[Asked], seen: Mapping[tuple[str, str], Sequence[Shown]]) -> Iterator[str]:
    """Of two neighbours that are both visible, the later one that appeared before the former was complete."""
    visible = [(message, items[0]) for message in chat if (items := seen[message.chat, message.tag])]
    for (former, its), (later, later_its) in pairwise(visible):
        is_ordered = former.accepted_s is not None and former.accepted_s <= later.began_s
        if is_ordered and (its.done_s is None or its.done_s > later_its.first_s):
            yield later.tag


def _by_tag(shown: Sequence[Shown]) -> defaultdict[tuple[str, str], list[Shown]]:
    found: defaultdict[tuple[str, str], list[Shown]] = defaultdict(list)
    for item in sorted(shown, key=lambda item: item.first_s):
        for tag in set(TAG.findall(item.text)):
            found[item.chat, tag].append(item)
    return found


def _strays(asked: Sequence[Asked], shown: Sequence[Shown]) -> list[Shown]:
    """What a person sees in a chat that answers nothing they wrote there."""
    known = {(message.chat, message.tag) for message in asked}
    return [item for item in shown if not known & {(item.chat, tag) for tag in TAG.findall(item.text)}]


def _by_chat(asked: Sequence[Asked]) -> list[list[Asked]]:
    chats: defaultdict[str, list[Asked]] = defaultdict(list)
    for message in sorted(asked, key=lambda message: message.began_s):
        chats[message.chat].append(message)
    return list(chats.values())
