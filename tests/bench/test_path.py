"""The whole benchmark, quick: real servers, real processes, a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.path import main
from tests.conftest import server_url


@pytest.mark.long
def test_the_quick_benchmark_measures_everything_and_loses_nothing(tmp_path: Path) -> None:
    server_url("TEST_POSTGRES_URL", "PostgreSQL")  # says what is missing; the benchmark starts servers of its own
    server_url("TEST_REDIS_URL", "Redis")

    main(["--quick", "--out", str(tmp_path)])

    raw = json.loads((tmp_path / "message-path.json").read_text("utf-8"))
    words = {verdict["what"]: verdict["word"] for verdict in raw["verdicts"]}
    assert [what for what, word in words.items() if word == "not measured"] == []
    assert words["ingress, messages refused or lost"] == words["end to end, messages refused or lost"] == "reached"
    assert (raw["machine"]["PostgreSQL fsync"], raw["machine"]["PostgreSQL synchronous_commit"]) == ("on", "on")
    assert [cost["conversations"] for cost in raw["growth"]] == [200, 2000]
    assert {sample["connections"] for sample in raw["ingress"] if sample["asked"] is None} == {1, 32}
