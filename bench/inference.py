"""Benchmarks of the local engine; the figures and what they mean are in docs/benchmarks/. Needs torch, not Django.

python -m bench.inference [--device cpu|cuda] [--quick] [--minutes N] [--only PART] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from bench.processes import ROOT

REPORTS = ROOT / "docs" / "benchmarks"
TRIALS = ROOT / "var" / "bench"  # git ignores it: a quick run must not pass for a measurement
PARTS = ("decode", "followups", "bar", "compare", "long", "loops", "demo")


def main(words: list[str]) -> None:
    given = _arguments(words)
    if given.device == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"  # one thread for everybody; torch reads it when it is imported
    from bench.serving.plans import plan_for
    from bench.serving.run import measure

    plan = plan_for(given.device, quick=given.quick, minutes=given.minutes)
    is_whole = not (given.quick or given.only)
    folder = given.out or (REPORTS if is_whole else TRIALS)
    began = time.monotonic()
    report = measure(plan, [given.only] if given.only else list(PARTS), _command(words), say)
    report.write(folder)
    for verdict in report.verdicts:
        wanted = f" (wanted: {verdict.wanted})" if verdict.wanted else ""
        say(f"{verdict.word:<12} {verdict.goal} {verdict.what}: {verdict.found}{wanted}")
    say(f"{folder / report.name}.md, .json and .svg, after {time.monotonic() - began:.0f} s")


def say(line: str) -> None:
    print(line, flush=True)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.inference", description="Benchmarks of the local engine.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="small models, or 0.6B and 8B ones")
    parser.add_argument("--quick", action="store_true", help="about two minutes; figures worth little")
    parser.add_argument("--minutes", type=float, help="what there was no time for is named in the report")
    parser.add_argument("--only", choices=PARTS, help="one part; written below var/bench unless --out names a folder")
    parser.add_argument("--out", type=Path, help="folder for the report")
    return parser.parse_args(words)


def _command(words: list[str]) -> str:
    return shlex.join(["python", "-m", "bench.inference", *words]) if words else "make bench-inference"


if __name__ == "__main__":
    main(sys.argv[1:])
