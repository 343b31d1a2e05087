"""Benchmarks of the message path; the figures and what they mean are in docs/benchmarks/.

    python -m bench.path [--quick] [--only ingress|end_to_end|growth] [--out FOLDER]

PostgreSQL and Redis are private ones, started here and gone afterwards.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bench import end_to_end, growth, ingress, machine, sites
from bench.load import Load
from bench.processes import ROOT
from bench.report import NAME, Report
from bench.sampling import FULL, QUICK, Plan
from bench.stores import postgres
from scripts import servers

PARTS = ("ingress", "end_to_end", "growth")
REPORTS = ROOT / "docs" / "benchmarks"
TRIALS = ROOT / "var" / "bench"  # git ignores it: a quick run must not pass for a measurement


def main(words: list[str]) -> None:
    given = _arguments(words)
    plan: Plan = QUICK if given.quick else FULL
    is_whole = not (given.quick or given.only)
    folder = given.out or (REPORTS if is_whole else TRIALS)
    began = time.monotonic()
    report = measure(plan, [given.only] if given.only else list(PARTS), _command(words))
    report.write(folder)
    for verdict in report.verdicts:
        say(f"{verdict.word:<12} {verdict.what}: {verdict.figure:.2f}{verdict.unit} (wanted: {verdict.target})")
    say(f"{folder / NAME}.md, .json and .svg, after {time.monotonic() - began:.0f} s")


def measure(plan: Plan, parts: list[str], command: str) -> Report:
    servers.install_missing()
    with postgres() as database, servers.redis() as redis_url, tempfile.TemporaryDirectory() as folder:
        if redis_url is None:
            raise FileNotFoundError("Redis is not installed, and could not be: apt install redis-server")
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        report = Report(plan, command, now, machine.facts(database))
        for name, value in report.machine.items():
            say(f"{name}: {value}")
        with (
            closing(Load()) as load,
            closing(sites.World(Path(folder), database, redis_url, load.platform_port)) as world,
        ):
            sites.make_template(world)
            _fill_in(report, parts, world, load)
        return report


def _fill_in(report: Report, parts: list[str], world: sites.World, load: Load) -> None:
    if "ingress" in parts:
        report.ingress = ingress.measure(world, load, report.plan, say)
    if "end_to_end" in parts:
        report.end_to_end = end_to_end.measure(world, load, report.plan, say)
    if "growth" in parts:
        report.growth = growth.measure(world, load, report.plan, say)


def say(line: str) -> None:
    print(line, flush=True)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.path", description="Benchmarks of the message path.")
    parser.add_argument("--quick", action="store_true", help="about two minutes; figures worth little")
    parser.add_argument("--only", choices=PARTS, help="one part; written below var/bench unless --out names a folder")
    parser.add_argument("--out", type=Path, help="folder for the report")
    return parser.parse_args(words)


def _command(words: list[str]) -> str:
    return shlex.join(["python", "-m", "bench.path", *words]) if words else "make bench"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # told to end, it still stops what it started
    main(sys.argv[1:])
