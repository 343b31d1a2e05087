"""One run as files: JSON with every sample, a Markdown page with tables and verdicts, an SVG plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import verdicts
from bench.figures import middle
from bench.growth import Cost
from bench.plot import svg
from bench.results import of, rate_of
from bench.sampling import Plan, Sample
from bench.tables import plain, shown, table
from bench.verdicts import Verdict

NAME = "message-path"


@dataclass(slots=True)
class Report:
    """What a run measured; parts that were not asked for stay empty."""

    plan: Plan
    command: str
    taken_at: str
    machine: dict[str, str]
    ingress: list[Sample] = field(default_factory=list)
    end_to_end: list[Sample] = field(default_factory=list)
    growth: list[Cost] = field(default_factory=list)

    @property
    def verdicts(self) -> list[Verdict]:
        found = verdicts.of_ingress(self.ingress) if self.ingress else []
        found += verdicts.of_end_to_end(self.end_to_end) if self.end_to_end else []
        return found + (verdicts.of_growth(self.growth) if self.growth else [])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        raw = {**asdict(self), "verdicts": [{**asdict(v), "word": v.word} for v in self.verdicts]}
        (folder / f"{NAME}.json").write_text(json.dumps(plain(raw), indent=1, ensure_ascii=False) + "\n", "utf-8")
        (folder / f"{NAME}.md").write_text(self.markdown(), "utf-8")
        (folder / f"{NAME}.svg").write_text(svg(self._panels()), "utf-8")

    def markdown(self) -> str:
        parts = [
            "# The message path: how fast\n",
            f"Made by `{self.command}` on {self.taken_at}; do not edit. How it is measured: [README.md](README.md). "
            f"Every sample is in [{NAME}.json]({NAME}.json).\n",
            "Figures of the quick plan are worth little: one short round.\n" if self.plan.name == "quick" else "",
            f"![Messages a second]({NAME}.svg)\n",
            "## Targets\n",
            table(("target", "wanted", "found", ""), (_verdict(v) for v in self.verdicts)),
            self._samples("## Ingress\n", self.ingress),
            self._samples("## End to end\n", self.end_to_end),
            _growth(self.growth),
            "## Machine\n",
            table(("what", "value"), self.machine.items()),
        ]
        return "\n".join(part for part in parts if part)

    def _samples(self, title: str, samples: Sequence[Sample]) -> str:
        heads = ("what", "connections", "messages/s", "p50, ms", "p99, ms", "CPU, ms a message", "refused, lost")
        return title + "\n" + table(heads, _rows(samples)) if samples else ""

    def _panels(self) -> list[tuple[str, dict[str, dict[str, float]]]]:
        named = [("Ingress: messages a second", self.ingress), ("End to end: messages a second", self.end_to_end)]
        return [(title, _bars(samples)) for title, samples in named if samples]


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    word = verdict.word if verdict.is_reached else f"**{verdict.word}**"
    return verdict.what, verdict.target, f"{shown(verdict.figure)}{verdict.unit}", word


def _rows(samples: Sequence[Sample]) -> Iterable[tuple[str, ...]]:
    """Medians of the rounds."""
    kinds = dict.fromkeys((s.subject, s.connections, s.asked is not None) for s in samples)
    for subject, connections, is_open in kinds:
        found = of(samples, subject, connections, is_open=is_open)
        load = f"{shown(middle([s.asked or 0.0 for s in found]))}/s asked" if is_open else str(connections)
        columns = [[getattr(s, name) for s in found] for name in ("rate", "p50_ms", "p99_ms", "cpu_ms")]
        trouble = f"{sum(s.errors for s in found)}, {sum(s.lost for s in found)}"
        yield subject, load, *(shown(middle(column)) for column in columns), trouble


def _bars(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    subjects = list(dict.fromkeys(sample.subject for sample in samples))
    levels = sorted({sample.connections for sample in samples if sample.asked is None})
    return {
        f"{level} connections": {name: rate_of(samples, name, level) for name in subjects if of(samples, name, level)}
        for level in levels
    }


def _growth(costs: Sequence[Cost]) -> str:
    if not costs:
        return ""
    heads = ("stored conversations", "blocks a message", "in PostgreSQL, ms", "p50, ms", "mean rate/s", "CPU, ms")
    rows = [
        (f"{c.conversations:,}", *map(shown, (c.blocks, c.exec_ms, c.sample.p50_ms, c.sample.rate, c.sample.cpu_ms)))
        for c in costs
    ]
    return "## Growth\n\n" + table(heads, rows) + "\nStatements that grew most:\n\n" + _grown(costs[0], costs[-1])


def _grown(few: Cost, many: Cost, most: int = 8) -> str:
    before = {statement.query: statement.blocks for statement in few.statements}
    grown = sorted(many.statements, key=lambda s: before.get(s.query, 0.0) - s.blocks)[:most]
    rows = [(shown(before.get(s.query, 0.0)), shown(s.blocks), f"`{_code(s.query)}`") for s in grown]
    return table(("blocks before", "after", "statement"), rows)


def _code(query: str) -> str:
    return query[:160].replace("|", "\\|").replace("`", "'")
