"""What a message costs with few and with many stored conversations: blocks that PostgreSQL touches, and time.

Both times the same people write at the same pace for as long, so that the scheduler's own queries weigh the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from bench import sites
from bench.load import Load
from bench.measured import Door, Job
from bench.processes import Processes
from bench.sampling import Plan, Sample, Say, Subject, line, take
from bench.sites import World

NAME = "growth"
RATE = 10.0
PEOPLE = 150  # of those who are stored first, at either size
STATEMENTS = """
    SELECT query, sum(shared_blks_hit + shared_blks_read)::float8, sum(total_exec_time)::float8, sum(calls)::float8
    FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
    WHERE datname = %s GROUP BY query ORDER BY 2 DESC
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
        return sum(statement.blocks for statement in self.statements)

    @property
    def exec_ms(self) -> float:
        return sum(statement.exec_ms for statement in self.statements)


def measure(world: World, load: Load, plan: Plan, say: Say) -> list[Cost]:
    server = sites.production(world, NAME, 6)
    with sites.stopped_at_the_end(server):
        server.wait_for(server.port)
        door = server.join("inference")
        return [_cost(world, load, server, door, size, plan, say) for size in plan.conversations]


def _cost(world: World, load: Load, server: Processes, door: Door, size: int, plan: Plan, say: Say) -> Cost:
    say(f"{server.call('-m', 'bench.fill', str(size)).strip()} ...")
    subject = Subject(f"{size} stored", server, door, waits_for_reply=True)
    job = Job(door, 64, plan.growth_s, int(RATE * plan.growth_s) + 1, RATE, waits_for_reply=True, people=PEOPLE)
    take(load, subject, job, 0)  # fills caches, plans and connections
    with psycopg.connect(world.postgres.of(NAME), autocommit=True) as connection:
        count_anew(connection, world.postgres.counts_statements)
        sample = take(load, subject, job, 1)
        statements = counted(connection, int(RATE * plan.growth_s)) if world.postgres.counts_statements else []
    say(line(sample))
    return Cost(size, int(RATE * plan.growth_s), sample, statements)


def count_anew(connection: psycopg.Connection, counts_statements: bool) -> None:
    if counts_statements:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        connection.execute("SELECT pg_stat_statements_reset()")


def counted(connection: psycopg.Connection, messages: int) -> list[Statement]:
    rows = connection.execute(STATEMENTS, [NAME]).fetchall()
    mine = [row for row in rows if "pg_stat_statements" not in row[0]]
    return [Statement(" ".join(q.split())[:300], b / messages, t / messages, c / messages) for q, b, t, c in mine]
