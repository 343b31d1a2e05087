"""Rounds of load over several sites, taken in turn, so that a noisy machine is unfair to all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.load import Load
from bench.measured import Door, Job, Measured
from bench.processes import Processes


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often. The quick one shows that everything works; its figures are worth little."""

    name: str
    connections: tuple[int, ...]
    rounds: int
    ingress_s: float
    end_to_end_s: float
    open_s: float
    bare_tasks: int
    conversations: tuple[int, int]  # at least 200: two times growth.PEOPLE
    growth_s: float
    warm_up_s: float


FULL = Plan("full", (1, 16, 32, 64), 3, 2.5, 5.0, 8.0, 600, (1_000, 100_000), 30.0, 3.0)
QUICK = Plan("quick", (1, 32), 1, 1.5, 3.0, 3.0, 150, (200, 2_000), 6.0, 1.5)
COMPARED = 32  # connections at which the targets are stated


@dataclass(frozen=True, slots=True)
class Subject:
    """One site under load."""

    name: str
    processes: Processes
    door: Door
    waits_for_reply: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. ``rate`` is a second's worth; an open loop has the rate that it was asked for as ``asked``."""

    subject: str
    round: int
    connections: int
    rate: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_ms: float = 0.0  # of all processes of the site, a message
    errors: int = 0
    lost: int = 0
    asked: float | None = None


Say = Callable[[str], None]


def take(load: Load, subject: Subject, job: Job, number: int) -> Sample:
    before_s = subject.processes.cpu_s()
    found = load.run(job)
    return _sample(subject, job, number, found, subject.processes.cpu_s() - before_s)


def _sample(subject: Subject, job: Job, number: int, found: Measured, cpu_s: float) -> Sample:
    return Sample(
        subject=subject.name,
        round=number,
        connections=job.connections,
        rate=found.rate,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        cpu_ms=cpu_s * 1000 / max(1, found.sent),
        errors=found.errors,
        lost=found.lost,
        asked=job.rate,
    )


def closed_loop(load: Load, subject: Subject, connections: int, seconds: float, number: int) -> Sample:
    most = 2_000 if subject.waits_for_reply else int(seconds * 6_000)
    job = Job(subject.door, connections, seconds, most=most, waits_for_reply=subject.waits_for_reply)
    return take(load, subject, job, number)


def open_loop(load: Load, subject: Subject, rate: float, seconds: float, number: int) -> Sample:
    job = Job(
        subject.door,
        connections=64,
        seconds=seconds,
        most=int(rate * seconds) + 1,
        rate=rate,
        waits_for_reply=subject.waits_for_reply,
    )
    return take(load, subject, job, number)


def warm_up(load: Load, subjects: Iterable[Subject], seconds: float) -> None:
    for subject in subjects:
        closed_loop(load, subject, COMPARED, seconds, 0)


def rounds(load: Load, subjects: Sequence[Subject], plan: Plan, seconds: float, say: Say) -> list[Sample]:
    samples = []
    for number in range(1, plan.rounds + 1):
        for connections in plan.connections:
            for subject in subjects:
                samples.append(closed_loop(load, subject, connections, seconds, number))
                say(line(samples[-1]))
    return samples


def line(sample: Sample) -> str:
    kind = "closed loop" if sample.asked is None else f"{sample.asked:.1f}/s asked"
    trouble = f", {sample.errors} refused, {sample.lost} lost" if sample.errors or sample.lost else ""
    return (
        f"{sample.subject:<16} {sample.connections:>3} connections, {kind}: {sample.rate:7.1f}/s, "
        f"p50 {sample.p50_ms:.1f} ms, p99 {sample.p99_ms:.1f} ms, CPU {sample.cpu_ms:.2f} ms a message{trouble}"
    )
