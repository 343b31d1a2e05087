"""From the callback to the reply at the platform, with the echo engine, against a bare Celery task.

A closed loop is a number of people who each wait for their reply before they write again.
"""

from __future__ import annotations

import json

from bench import sites
from bench.load import Load
from bench.results import rate_of
from bench.sampling import COMPARED, Plan, Sample, Say, Subject, closed_loop, line, open_loop, warm_up
from bench.sites import Server, World

WHOLE, BARE, EMBEDDED = "whole path", "bare task", "whole path, embedded"
BARE_KEPT = "bare task, connections kept"


def measure(world: World, load: Load, plan: Plan, say: Say) -> list[Sample]:
    return _production(world, load, plan, say) + _embedded(world, load, plan, say)


def _production(world: World, load: Load, plan: Plan, say: Say) -> list[Sample]:
    server = sites.production(world, "whole", 4)
    bare = {
        BARE: sites.bare_worker(world, "bare", 5, keeps_connections=False),
        BARE_KEPT: sites.bare_worker(world, "bare_kept", 6, keeps_connections=True),
    }
    samples: list[Sample] = []
    with sites.stopped_at_the_end(server, *bare.values()):
        server.wait_for(server.port)
        subject = Subject(WHOLE, server, server.join("inference"), waits_for_reply=True)
        warm_up(load, [subject], plan.warm_up_s)
        for name, worker in bare.items():
            worker.join("inference")
            _bare(name, worker, plan.bare_tasks // 3, 0)
        for number in range(1, plan.rounds + 1):
            for name, worker in bare.items():
                samples.append(_bare(name, worker, plan.bare_tasks, number))
                say(line(samples[-1]))
            samples += _levels(load, subject, plan, number, say)
        samples += _at_half(load, subject, plan, rate_of(samples, WHOLE), say)
    return samples


def _embedded(world: World, load: Load, plan: Plan, say: Say) -> list[Sample]:
    server = sites.embedded(world, "embedded_whole")
    samples: list[Sample] = []
    with sites.stopped_at_the_end(server):
        server.wait_for(server.port)
        subject = Subject(EMBEDDED, server, server.join("inference"), waits_for_reply=True)
        warm_up(load, [subject], plan.warm_up_s)
        for number in range(1, plan.rounds + 1):
            samples += _levels(load, subject, plan, number, say)
        samples += _at_half(load, subject, plan, rate_of(samples, EMBEDDED), say)
    return samples


def _levels(load: Load, subject: Subject, plan: Plan, number: int, say: Say) -> list[Sample]:
    samples = []
    for connections in plan.connections:
        samples.append(closed_loop(load, subject, connections, plan.end_to_end_s, number))
        say(line(samples[-1]))
    return samples


def _at_half(load: Load, subject: Subject, plan: Plan, rate: float, say: Say) -> list[Sample]:
    samples = []
    for number in range(1, plan.rounds + 1):
        samples.append(open_loop(load, subject, rate / 2, plan.open_s, number))
        say(line(samples[-1]))
    return samples


def _bare(name: str, server: Server, count: int, number: int) -> Sample:
    """All are rung for at once; the rate is that of the whole lot."""
    before_s = server.cpu_s()
    found = json.loads(server.call("-m", "bench.baselines.chain", str(count)).splitlines()[-1])
    cpu_ms = (server.cpu_s() - before_s) * 1000 / count
    return Sample(name, number, COMPARED, rate=count / found["seconds"], cpu_ms=cpu_ms)
