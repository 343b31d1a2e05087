"""What a reader of the report sees: targets computed from the samples, missed ones named, nothing measured admitted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import end_to_end, ingress
from bench.growth import Cost, Statement, shortened
from bench.report import Report
from bench.sampling import QUICK, Sample
from bench.tables import shown
from bench.verdicts import of_end_to_end, of_growth, of_ingress


def ingress_samples(site: float = 300.0, p99_ms: float = 40.0) -> list[Sample]:
    rates = {ingress.DAPHNE: site, ingress.HELLO: 1000.0, ingress.PLAIN: 70.0}
    closed = [Sample(name, n, 32, rate * n) for n in (1, 2, 3) for name, rate in rates.items()]
    return [*closed, Sample(ingress.DAPHNE, 1, 64, site / 2, p99_ms=p99_ms, asked=site / 2)]


def end_to_end_samples(whole: float = 70.0, cpu_ms: float = 14.0, p99_ms: float = 900.0) -> list[Sample]:
    return [
        Sample(end_to_end.WHOLE, 1, 32, whole, cpu_ms=cpu_ms),
        Sample(end_to_end.BARE, 1, 32, 150.0),
        Sample(end_to_end.WHOLE, 1, 64, whole / 2, p99_ms=p99_ms, asked=whole / 2),
    ]


def growth_costs(blocks: float = 105.0, p50_ms: float = 60.0) -> list[Cost]:
    few = Cost(1_000, 100, Sample("1,000 stored", 1, 64, 8.0, p50_ms=50.0), [Statement("SELECT 1", 100.0, 1.0, 1.0)])
    many = Cost(100_000, 100, replace(few.sample, p50_ms=p50_ms), [Statement("SELECT 1", blocks, 1.0, 1.0)])
    return [few, many]


def test_all_ingress_targets_are_reached_at_their_limits() -> None:
    assert [(v.figure, v.word) for v in of_ingress(ingress_samples(280.0, 49.9))] == [
        (0.28, "reached"),
        (4.0, "reached"),
        (49.9, "reached"),
        (0.0, "reached"),
    ]


def test_missed_ingress_targets_say_so() -> None:
    assert [v.word for v in of_ingress(ingress_samples(240.0, 50.0))] == ["missed", "missed", "missed", "reached"]


def test_a_ratio_compares_within_a_round() -> None:
    """The machine was three times as fast in the third round; medians of rates would say 0.6."""
    samples = [Sample(ingress.DAPHNE, n, 32, rate) for n, rate in enumerate((30.0, 60.0, 90.0))]
    samples += [Sample(ingress.HELLO, n, 32, rate) for n, rate in enumerate((100.0, 100.0, 900.0))]

    assert of_ingress(samples)[0].figure == 0.3


def test_a_refused_message_misses_a_target() -> None:
    samples = ingress_samples()
    samples[0] = replace(samples[0], errors=1, lost=2)

    assert (of_ingress(samples)[3].figure, of_ingress(samples)[3].word) == (3.0, "missed")


def test_end_to_end_targets() -> None:
    assert [v.word for v in of_end_to_end(end_to_end_samples(60.0, 15.0, 999.0))] == ["reached"] * 4
    assert [v.word for v in of_end_to_end(end_to_end_samples(59.0, 15.1, 1000.0))] == ["missed"] * 3 + ["reached"]


@pytest.mark.parametrize(
    ("blocks", "p50_ms", "words"),
    [(110.0, 62.5, ["reached", "reached"]), (89.0, 40.0, ["missed", "reached"]), (111.0, 63.0, ["missed", "missed"])],
)
def test_growth_targets(blocks: float, p50_ms: float, words: list[str]) -> None:
    assert [v.word for v in of_growth(growth_costs(blocks, p50_ms))] == words


def test_what_was_not_measured_is_no_success() -> None:
    uncounted = [replace(cost, statements=[]) for cost in growth_costs()]

    assert [v.word for v in of_growth(uncounted)] == ["not measured", "reached"]
    assert [math.isnan(uncounted[0].blocks), math.isnan(uncounted[0].exec_ms)] == [True, True]


def report() -> Report:
    return Report(
        plan=QUICK,
        command="make bench",
        taken_at="2026-11-22 12:00 UTC",
        machine={"CPU": "a <fast> one", "PostgreSQL fsync": "on"},
        ingress=ingress_samples(p99_ms=math.nan),
        end_to_end=end_to_end_samples(),
        growth=growth_costs(),
    )


def test_the_page_shows_verdicts_medians_and_the_machine(tmp_path: Path) -> None:
    report().write(tmp_path)
    page = (tmp_path / "message-path.md").read_text("utf-8").splitlines()

    assert "| ingress, of the bare ASGI hello | at least 0.25 times | 0.30 times | reached |" in page
    assert "| ingress, p99 at half of that load | below 50 ms | - ms | **not measured** |" in page
    assert "| site | 32 | 600 | 0.00 | 0.00 | 0.00 | 0, 0 |" in page  # the median of 300, 600 and 900
    assert "| 100,000 | 105 | 1.00 | 60.0 | 8.00 | 0.00 |" in page
    assert "| PostgreSQL fsync | on |" in page


def test_the_raw_file_is_valid_json_with_all_samples(tmp_path: Path) -> None:
    report().write(tmp_path)
    raw = json.loads((tmp_path / "message-path.json").read_text("utf-8"), parse_constant=pytest.fail)

    assert [len(raw["ingress"]), len(raw["end_to_end"]), len(raw["growth"]), len(raw["verdicts"])] == [10, 3, 2, 10]
    assert raw["ingress"][-1]["p99_ms"] is None


def test_the_plot_draws_each_rate_to_one_scale(tmp_path: Path) -> None:
    report().write(tmp_path)
    drawn = ElementTree.parse(tmp_path / "message-path.svg").getroot()
    widths = [float(bar.attrib["width"]) for bar in drawn.iter("{http://www.w3.org/2000/svg}rect")]

    assert len(widths) == 5
    assert widths[0] / widths[1] == pytest.approx(0.3, rel=0.01)  # site and hello
    assert widths[1] == widths[4]  # the longest of each panel: hello, and the bare task


@pytest.mark.parametrize(("value", "wanted"), [(0.04321, "0.04"), (12.34, "12.3"), (2403.3, "2,403"), (math.nan, "-")])
def test_figures_have_three_digits_that_count(value: float, wanted: str) -> None:
    assert shown(value) == wanted


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ('SELECT "a"."id", "a"."b"\n FROM "a" WHERE "a"."id" = $1', 'SELECT … FROM "a" WHERE "a"."id" = $1'),
        ("DELETE FROM a WHERE id IN ($1::uuid, $2::uuid, $3::uuid)", "DELETE FROM a WHERE id IN (…)"),
        ('INSERT INTO "a" ("id") VALUES ($1::uuid) RETURNING 1', 'INSERT INTO "a" …'),
    ],
)
def test_statements_are_told_apart_by_where_they_look(query: str, wanted: str) -> None:
    assert shortened(query) == wanted
