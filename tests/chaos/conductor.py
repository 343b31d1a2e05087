"""One run: people write, processes are killed by plan, and when all is quiet the judge is told what was seen."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.chaos.judge import TAG, Asked, Shown, Verdict, judge
from tests.chaos.matrix import EVERYWHERE, RANDOM
from tests.chaos.sender import Platform, Sender
from tests.chaos.site import ChaosSite, tag_of

T = TypeVar("T")
REACHED_WITHIN_S = 8.0
MOST_TRIES = 4
MOST_AHEAD = 60  # messages that may be sent before the kill that is due: some must be under way for it
MOST_WAITING = 200
QUIET_S = 2.0  # after the last message is settled: a double may come late


@dataclass(frozen=True, slots=True)
class Options:
    messages: int = 20_000
    conversations: int = 400
    kills: int = 60  # of each victim
    rate: float = 12.0  # messages a second
    repeats: float = 0.05
    repeats_after_restart: float = 0.01
    seed: int = 1
    without: str = ""
    minutes: float = 45.0
    patience_s: float = 90.0  # for what is not settled when everything is sent
    matrix: tuple[tuple[str, str], ...] = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Kill:
    """``message`` is the platform's id of a message that was in the stage; ``at_s`` counts from the first message."""

    victim: str
    stage: str
    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    kills: list[Kill]
    missed: list[tuple[str, str]]  # planned, but no message came into the stage
    waiting: list[str]  # not settled when patience ended
    statuses: dict[str, int]
    interrupted: int  # messages of which a send was cut off by a kill
    unasked: list[tuple[str, int]]  # processes that ended by themselves, and how
    repeated: int
    repeated_after_restart: int
    sending_s: float
    settling_s: float
    evidence: dict[str, list[str]]  # of each faulty message: what happened to it, and when

    @property
    def is_clean(self) -> bool:
        return not (self.verdict.faults or self.waiting)


def plan(options: Options, chance: random.Random) -> list[tuple[str, str]]:
    """Who is killed in which stage: each victim as often as asked, over all of its stages, the victims in turn."""
    columns = []
    for victim in dict(options.matrix):
        stages = itertools.cycle(stage for name, stage in options.matrix if name == victim)
        column = [(victim, next(stages)) for _ in range(options.kills)]
        chance.shuffle(column)
        columns.append(column)
    return [kill for row in zip(*columns, strict=True) for kill in row]


class Conductor:
    def __init__(self, options: Options, site: ChaosSite, say: Callable[[str], None] = lambda _: None) -> None:
        self._options, self._site, self._say = options, site, say
        self._chance = random.Random(options.seed)
        self._sender = Sender(
            Platform(site.keys, site.secret, site.platform_url),
            site.port,
            options.messages,
            options.conversations,
            self._chance,
            options.repeats,
        )
        self._plan = plan(options, self._chance)
        self._step = options.messages / max(1, len(self._plan))
        self._over = 0  # kills done or given up
        self._kills: list[Kill] = []
        self._missed: list[tuple[str, str]] = []
        self._is_crowded = False

    def run(self) -> Outcome:
        self._began_s = time.monotonic()
        deadline_s = self._began_s + 60 * self._options.minutes
        self._sender.start(self._allowed)
        try:
            self._kill_by_plan(deadline_s)
            self._over = len(self._plan)
            _wait(lambda: self._look() and self._sender.is_done, deadline_s)
            sending_s = time.monotonic() - self._began_s
            self._say(f"{self._sender.begun} messages in {sending_s:.0f} s; waiting until all is quiet")
            _wait(lambda: self._site.waiting() == [], time.monotonic() + self._options.patience_s, 0.3)
            time.sleep(QUIET_S)
        finally:
            self._sender.stop()
        return self._outcome(sending_s, time.monotonic() - self._began_s - sending_s - QUIET_S)

    # -- the pace --

    def _allowed(self) -> float:
        if self._is_crowded:
            return 0
        ahead = math.inf if self._over == len(self._plan) else (self._over + 1) * self._step + MOST_AHEAD
        return min(ahead, self._options.rate * (time.monotonic() - self._began_s))

    def _look(self) -> bool:
        """The people wait where the site is far behind: a run shall end."""
        self._is_crowded = len(self._site.waiting() or ()) > MOST_WAITING
        return True

    # -- the kills --

    def _is_due(self) -> bool:
        """Each kill after its share of the messages, so that there are some under way for it."""
        return self._look() and self._sender.begun >= min(self._over * self._step, self._options.messages)

    def _kill_by_plan(self, deadline_s: float) -> None:
        left = deque((victim, stage, 1) for victim, stage in self._plan)
        while left and time.monotonic() < deadline_s:
            _wait(self._is_due, deadline_s, 0.1)
            victim, stage, tries = left.popleft()
            if (kill := self._killed(victim, stage)) is not None:
                self._kills.append(kill)
                self._say(f"{kill.at_s:6.1f} s  {victim:8} {stage:12} {kill.message}")
            elif tries < MOST_TRIES:
                left.append((victim, stage, tries + 1))
                continue
            else:
                self._missed.append((victim, stage))
            self._over += 1
        self._missed += [(victim, stage) for victim, stage, _ in left]

    def _killed(self, victim: str, stage: str) -> Kill | None:
        """Kill once a message is in the stage; None when none came in time."""
        if stage == RANDOM:
            return self._killed_anywhere(victim)
        (flag := self._site.folder / "armed" / stage).touch()
        held = self._site.folder / "held"
        notes = _wait(lambda: [n for n in held.iterdir() if not n.suffix], time.monotonic() + REACHED_WITHIN_S, 0.02)
        flag.unlink(missing_ok=True)
        if not notes:
            return None
        note = json.loads(notes[0].read_text("utf-8"))
        self._strike(victim, note["pid"])
        notes[0].unlink(missing_ok=True)
        self._restarted(victim)
        return Kill(victim, stage, note["message"], time.monotonic() - self._began_s)

    def _killed_anywhere(self, victim: str) -> Kill | None:
        waiting = _wait(lambda: self._site.waiting() or [], time.monotonic() + REACHED_WITHIN_S, 0.05)
        if not waiting:
            return None
        pids = self._site.crew.pids(victim)
        self._strike(victim, self._chance.choice(pids) if pids else 0)
        self._restarted(victim)
        return Kill(victim, RANDOM, self._chance.choice(waiting), time.monotonic() - self._began_s)

    def _strike(self, victim: str, pid: int) -> None:
        if victim in self._site.servers:
            self._site.servers[victim].kill()
        else:
            self._site.crew.kill(pid)

    def _restarted(self, victim: str) -> None:
        if victim in self._site.servers:
            self._site.servers[victim].start()
        if victim == "web":
            share = self._options.messages * self._options.repeats_after_restart / self._options.kills
            self._sender.repeat_after_restart(math.ceil(share))

    # -- the end --

    def _outcome(self, sending_s: float, settling_s: float) -> Outcome:
        statuses, interrupted = self._site.statuses(), self._site.interrupted()
        asked, shown = [message.asked for message in self._sender.messages if message.began_s], self._site.shown()
        verdict = judge(asked, shown, statuses, interrupted)
        faulty = {tag for tags in verdict.faults.values() for tag in tags}
        return Outcome(
            verdict=verdict,
            kills=self._kills,
            missed=self._missed,
            waiting=[tag_of(name) for name in self._site.waiting() or ()],
            statuses=dict(Counter(statuses.values())),
            interrupted=len(interrupted),
            unasked=self._site.crew.unasked,
            repeated=self._sender.repeated,
            repeated_after_restart=self._sender.repeated_after_restart,
            sending_s=sending_s,
            settling_s=settling_s,
            evidence={one.tag: self._evidence(one, shown, statuses) for one in asked if one.tag in faulty},
        )

    def _evidence(self, one: Asked, shown: Sequence[Shown], statuses: Mapping[str, str]) -> list[str]:
        """Seconds since the first message; the kills near it are in the list of kills."""
        took = f"{one.kind}: sent {self._at(one.began_s)}, taken {self._at(one.accepted_s)}, {statuses.get(one.tag)}"
        items = [item for item in shown if item.chat == one.chat and one.tag in TAG.findall(item.text)]
        return [took, *(f"shown {self._at(i.first_s)}, whole {self._at(i.done_s)}: {i.text}" for i in items)]

    def _at(self, moment_s: float | None) -> str:
        return "never" if moment_s is None else f"{moment_s - self._began_s:.2f}"


def _wait(check: Callable[[], T], deadline_s: float, pause_s: float = 0.2) -> T:
    """The first true value of ``check``, or its last one when the time is over."""
    while not (value := check()) and time.monotonic() < deadline_s:
        time.sleep(pause_s)
    return value
