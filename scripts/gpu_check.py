"""Everything that only a GPU can prove, in one go: correctness, then speed. Needs torch and transformers, not Django.

    python -m scripts.gpu_check [--minutes 8] [--out FOLDER] [--dry-run]

Each part is a process of its own, so that one that dies takes no other with it. Writes ``gpu-check.json`` and the
benchmark's report to the folder, and ends with 1 if anything was wrong. ``--dry-run`` does the same on a CPU, where
Triton is interpreted and models are tiny: it shows that the program works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CASES = "tests.inference.engines.local"
LONGEST_CHECK_S = 240


def main(words: list[str]) -> int:
    given = _arguments(words)
    given.out.mkdir(parents=True, exist_ok=True)
    began, device = time.monotonic(), "cpu" if given.dry_run else "cuda"
    report: dict[str, Any] = {"device": device, "checks": {}}
    few = ["qwen3"] if given.dry_run else []
    for name, command in {
        "versions": ["scripts.gpu_facts", device],
        "kernels": [f"{CASES}.kernel_cases", device],
        "models": [f"{CASES}.backend_cases", device, *few],
        "models, recorded steps": [f"{CASES}.backend_cases", device, "--graphs", *few],
    }.items():
        report["checks"][name] = found = _checked(command, is_interpreted=given.dry_run)
        print(f"{'wrong' if found['wrong'] else 'well '} {name}: {found['wrong'] or found['seconds']}", flush=True)
        _write(given.out, report)
    left = given.minutes - (time.monotonic() - began) / 60
    report["benchmark"] = _benchmark(device, max(1.0, left), given.out)
    _write(given.out, report)
    return int(any(check["wrong"] for check in report["checks"].values()) or report["benchmark"] != 0)


def _checked(command: list[str], *, is_interpreted: bool) -> dict[str, Any]:
    """What a program that prints JSON says, and what of it is wrong."""
    began = time.monotonic()
    environment = {**os.environ, "TRITON_INTERPRET": "1"} if is_interpreted else dict(os.environ)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_CHECK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"wrong": [f"took more than {LONGEST_CHECK_S} s"], "seconds": LONGEST_CHECK_S}
    seconds = round(time.monotonic() - began, 1)
    if done.returncode != 0:
        return {"wrong": [f"ended with {done.returncode}"], "seconds": seconds, "said": done.stderr[-6000:]}
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return {"wrong": [name for name, value in said.items() if _is_wrong(value)], "seconds": seconds, "said": said}


def _is_wrong(value: object) -> bool:
    """Kernels tell (found, allowed); models tell what differs; facts are lists of one."""
    if isinstance(value, list) and len(value) == 2:
        return bool(value[0] > value[1])
    return isinstance(value, str) and bool(value)


def _benchmark(device: str, minutes: float, out: Path) -> int:
    command = [sys.executable, "-m", "bench.inference", "--device", device, "--minutes", f"{minutes:.1f}"]
    quick = ["--quick"] if device == "cpu" else []
    return subprocess.run([*command, *quick, "--out", str(out)], cwd=ROOT, check=False).returncode


def _write(folder: Path, report: dict[str, Any]) -> None:
    """After each part: a run that is cut off has told what it knew."""
    (folder / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu_check", description="What only a GPU can prove.")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything; the benchmark gets what is left")
    parser.add_argument("--out", type=Path, default=ROOT / "var" / "gpu", help="folder for the results")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU: shows that the program works")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
