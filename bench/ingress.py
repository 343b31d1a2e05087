"""The door: callbacks accepted and durable a second, against a bare ASGI application and a plain Django view.

No worker runs meanwhile: what is measured is the door alone, its doorbell included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from bench import sites
from bench.load import Load
from bench.results import rate_of
from bench.sampling import Plan, Sample, Say, Subject, line, open_loop, rounds, warm_up
from bench.sites import Server, World

DAPHNE, HELLO, PLAIN = "site", "hello", "plain view"
UVICORN, HELLO_UVICORN = "site, uvicorn", "hello, uvicorn"
EMBEDDED, HELLO_BESIDE = "embedded", "hello (beside embedded)"


def measure(world: World, load: Load, plan: Plan, say: Say) -> list[Sample]:
    with _production(world) as subjects:
        warm_up(load, subjects, plan.warm_up_s)
        samples = rounds(load, subjects, plan, plan.ingress_s, say)
        half = rate_of(samples, DAPHNE) / 2
        for number in range(1, plan.rounds + 1):
            samples.append(open_loop(load, subjects[0], half, plan.open_s, number))
            say(line(samples[-1]))
    with _embedded(world) as subjects:
        warm_up(load, subjects, plan.warm_up_s)
        return samples + rounds(load, subjects, plan, plan.ingress_s, say)


@contextmanager
def _production(world: World) -> Iterator[list[Subject]]:
    """The site first."""
    servers = {DAPHNE: sites.web(world, "door", 1), HELLO: sites.hello(world), PLAIN: sites.plain(world, 2)}
    if find_spec("uvicorn"):
        servers |= {UVICORN: sites.web(world, "door_uvicorn", 3, by_uvicorn=True)}
        servers |= {HELLO_UVICORN: sites.hello(world, by_uvicorn=True)}
    with sites.stopped_at_the_end(*servers.values()):
        yield [_subject(name, server) for name, server in servers.items()]


@contextmanager
def _embedded(world: World) -> Iterator[list[Subject]]:
    """The bot comes after the start: a queue that a model names by then would be served."""
    servers = {EMBEDDED: sites.embedded(world, "embedded_door"), HELLO_BESIDE: sites.hello(world)}
    with sites.stopped_at_the_end(*servers.values()):
        yield [_subject(name, server) for name, server in servers.items()]


def _subject(name: str, server: Server) -> Subject:
    server.wait_for(server.port)
    door = sites.HELLO_DOOR.at(server.port) if server.name == "hello" else server.join(sites.UNSERVED)
    return Subject(name, server, door)
