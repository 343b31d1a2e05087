"""What a message costs with few and with many stored conversations: blocks that PostgreSQL touches, and time.

Both times as many people, with as much history, write at the same pace for as long, so that history and the scheduler's
own queries weigh the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import psycopg

from bench import sites
from bench.load import Load
from bench.measured import Job
from bench.sampling import Plan, Sample, Say, Subject, line, take
from bench.sites import World

NAME = "growth"
RATE = 5.0  # well below what any machine can
PEOPLE = 100  # others at each size, all of them stored first
STATEMENTS = """
    SELECT query, (shared_blks_hit + shared_blks_read)::float8, total_exec_time::float8, calls::float8
    FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
    WHERE datname = %s AND toplevel
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """A message's share of one statement."""

    query: str
    blocks: float
    exec_ms: float
    calls: float


@dataclass(frozen=True, slots=True)
class Cost:
    conversations: int
    messages: int
    sample: Sample
    statements: list[Statement]

    @property
    def blocks(self) -> float:
        """NaN where PostgreSQL does not count its statements."""
        return sum(statement.blocks for statement in self.statements) if self.statements else math.nan

    @property
    def exec_ms(self) -> float:
        return sum(statement.exec_ms for statement in self.statements) if self.statements else math.nan


def measure(world: World, load: Load, plan: Plan, say: Say) -> list[Cost]:
    server = sites.production(world, NAME, 7)
    with sites.stopped_at_the_end(server):
        server.wait_for(server.port)
        door = server.join("inference")
        costs = []
        for number, size in enumerate(plan.conversations):
            say(f"{server.call('-m', 'bench.fill', str(size)).strip()} ...")
            job = Job(door, 64, plan.growth_s, int(RATE * plan.growth_s) + 1, RATE, waits_for_reply=True)
            job = replace(job, people=PEOPLE, first_person=number * PEOPLE)
            costs.append(_cost(world, load, Subject(f"{size:,} stored", server, door, True), job, size))
            say(line(costs[-1].sample))
        return costs


def _cost(world: World, load: Load, subject: Subject, job: Job, conversations: int) -> Cost:
    warm_up_s = job.seconds / 3
    take(load, subject, replace(job, seconds=warm_up_s), 0)  # fills caches and opens connections
    messages = job.most - 1
    if not world.postgres.counts_statements:
        return Cost(conversations, messages, take(load, subject, job, 1), [])
    with psycopg.connect(world.postgres.of(NAME), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("SELECT pg_stat_statements_reset()")
        sample = take(load, subject, job, 1)
        return Cost(conversations, messages, sample, _counted(connection, messages))


def _counted(connection: psycopg.Connection, messages: int) -> list[Statement]:
    """A message's share of each statement, dearest first; statements that differ in their lists only are one."""
    found: dict[str, tuple[float, float, float]] = {}
    for query, *figures in connection.execute(STATEMENTS, [NAME]):
        if "pg_stat_statements" not in query:
            before = found.get(shortened(query), (0.0, 0.0, 0.0))
            blocks, exec_ms, calls = (old + new / messages for old, new in zip(before, figures, strict=True))
            found[shortened(query)] = blocks, exec_ms, calls
    return sorted((Statement(query, *shares) for query, shares in found.items()), key=lambda s: -s.blocks)


def shortened(query: str) -> str:
    """A statement without its lists of columns and values: where it looks is what tells one from another."""
    words = re.sub(r"\s+", " ", query)
    words = re.sub(r"SELECT .+? FROM", "SELECT … FROM", words, count=1)
    words = re.sub(r"^(INSERT INTO \S+) .*", r"\1 …", words)
    return re.sub(r"\((\$\d+(::\w+)?(, )?)+\)", "(…)", words)[:400]
