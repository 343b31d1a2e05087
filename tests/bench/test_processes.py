from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.processes import Processes, Stat, cpu_s, parse_stat, tree

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_the_cpu_of_a_process_with_a_strange_name_is_read() -> None:
    rest = "S 4 7 7 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 500 1000"

    assert parse_stat(f"17 (a) b (c) {rest}") == Stat(pid=17, parent=4, ticks=110)


def test_a_tree_is_all_below_its_roots_and_nothing_else() -> None:
    stats = [Stat(5, 3, 1), Stat(3, 2, 1), Stat(2, 1, 1), Stat(9, 1, 1), Stat(4, 9, 1)]

    assert sorted(stat.pid for stat in tree(iter([2]), iter(stats))) == [2, 3, 5]


def test_cpu_of_living_and_of_ended_children_counts() -> None:
    """One child burns 0.3 s and ends, another burns as much and stays."""
    script = (
        "import subprocess, sys\n"
        f"burn = {BURN!r}\n"
        "subprocess.run([sys.executable, '-c', burn])\n"
        "burn += 'print(1, flush=True); input()'\n"
        "stays = subprocess.Popen([sys.executable, '-c', burn], stdin=-1, stdout=-1)\n"
        "stays.stdout.readline(); print(1, flush=True); input()"
    )
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        parent.stdout.readline()
        used_s = cpu_s([parent.pid])
        parent.communicate(b"\n")

    assert 0.55 <= used_s < 3.0  # /proc counts in hundredths, rounded down for each process


def test_a_process_that_ends_at_once_is_reported_with_what_it_said(tmp_path: Path) -> None:
    processes = Processes({}, tmp_path / "log")
    processes.start("-c", "raise SystemExit('no such database')")
    started = time.monotonic()

    with pytest.raises(RuntimeError, match="no such database"):
        processes.wait_for(1)

    assert time.monotonic() - started < 20


def test_a_failed_program_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of paper"):
        Processes({}, tmp_path / "log").call("-c", "raise SystemExit('out of paper')")


def test_a_process_that_ignores_the_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.processes.STOP_S", 0.5)
    processes = Processes({}, tmp_path / "log")
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    processes.start("-c", f"{ignore}{BURN}print(1, flush=True); time.sleep(60)")
    while not (tmp_path / "log").read_text():
        time.sleep(0.02)
    burnt_s = processes.cpu_s()

    processes.stop()

    assert [burnt_s >= 0.25, processes.cpu_s()] == [True, 0.0]
