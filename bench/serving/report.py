"""One run as files: JSON with everything, a Markdown page with verdicts and tables, an SVG plot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.figures import middle
from bench.plot import Bars, svg
from bench.serving import goals
from bench.serving.answers import Run
from bench.serving.goals import Verdict
from bench.serving.parts import Results
from bench.serving.plans import Plan
from bench.tables import plain, shown, table


@dataclass(frozen=True, slots=True)
class Report:
    plan: Plan
    command: str
    taken_at: str
    machine: dict[str, str]
    results: Results

    @property
    def name(self) -> str:
        return f"inference-{'cpu' if self.plan.device == 'cpu' else 'gpu'}"

    @property
    def _rate(self) -> str:
        return goals.CPU_RATE if self.plan.device == "cpu" else goals.RATE

    @property
    def verdicts(self) -> list[Verdict]:
        return goals.verdicts(self.results, is_gpu=self.plan.device != "cpu")

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        raw = {**asdict(self), "verdicts": [asdict(verdict) for verdict in self.verdicts]}
        text = json.dumps(plain(raw), indent=1, ensure_ascii=False)
        (folder / f"{self.name}.json").write_text(text + "\n", "utf-8")
        (folder / f"{self.name}.md").write_text(self.markdown(), "utf-8")
        (folder / f"{self.name}.svg").write_text(svg(self._panels()), "utf-8")

    def markdown(self) -> str:
        found, name = self.results, self.name
        parts = [
            "# The local engine: how fast\n",
            f"Made by `{self.command}` on {self.taken_at}; do not edit. How it is measured: [README.md](README.md). "
            f"Every figure is in [{name}.json]({name}.json).\n",
            "Figures of the quick plan are worth little: short rounds.\n" if self.plan.name == "quick" else "",
            f"![Tokens a second]({name}.svg)\n",
            "## Goals\n",
            table(("goal", "what", "wanted", "found", ""), (_verdict(verdict) for verdict in self.verdicts)),
            self._compared(),
            _runs("## Ours alone\n", found.loops + ([found.demo] if found.demo else [])),
            self._decode(),
            _left_out(found.left_out),
            "## Machine\n",
            table(("what", "value"), self.machine.items()),
        ]
        return "\n".join(part for part in parts if part)

    def _compared(self) -> str:
        found = self.results
        kinds = {"chat": found.rounds, **found.long_rounds, "the same 16 people": found.bar_rounds}
        rows = [row for rounds in kinds.values() for row in _medians(rounds, self._rate)]
        if not rows:
            return ""
        settings = ", ".join(f"{size}: {shown(rate)}" for size, rate in found.bare_settings.items())
        differing = ", ".join(f"{name} {count}" for name, count in found.differing.items())
        return (
            f"## Compared, {self.plan.shapes[0]}\n\n"
            + table((*_HEADS, "ours to it"), rows)
            + f"\nAnswers that are not token for token ours: {differing or 'not compared'}. Bare batching was tried "
            f"with so many tokens a batch (tokens/s): {settings or 'not tried'}; the best was taken.\n"
        )

    def _decode(self) -> str:
        device = self.results.device
        if device is None:
            return ""
        heads = ("model", "batch x context", "step, ms", "roofline, ms", "share", "tokens/s", "host, ms")
        rows = (
            (
                d.shape,
                f"{d.batch} x {d.context}",
                shown(d.step_ms),
                shown(d.roofline_ms),
                f"{d.share:.0%}",
                shown(d.tokens_per_s),
                shown(d.host_ms),
            )
            for d in self.results.decode
        )
        measured = f"Measured: {device.bytes_per_s / 1e9:,.1f} GB/s copied, {device.flops / 1e12:,.2f} TFLOP/s.\n"
        return "## A step beside its limit\n\n" + measured + "\n" + table(heads, rows)

    def _panels(self) -> list[tuple[str, Bars]]:
        compared = {
            title: _rates(rounds)
            for title, rounds in {"chat": self.results.rounds, **self.results.long_rounds}.items()
            if rounds
        }
        alone = {run.load: {"ours": run.tokens_per_s} for run in self.results.loops}
        named = [(f"Compared, {self.plan.shapes[0]}: tokens/s", compared), ("Ours alone: tokens/s", alone)]
        return [(title, bars) for title, bars in named if bars]


_HEADS = (
    "who",
    "load",
    "tokens/s",
    "tokens/s of CPU, all users asking",
    "good answers/s",
    "first token, ms: p50, p99",
    "gaps, ms: p50, p95, p99",
    "worst gap, ms",
    "answer, ms: mean, p99",
    "host, ms",
    "padding",
    "prefix found",
)


def _runs(title: str, runs: Sequence[Run]) -> str:
    return title + "\n" + table(_HEADS, map(_row, runs)) if runs else ""


def _row(run: Run) -> tuple[str, ...]:
    return (
        run.contestant,
        run.load,
        shown(run.tokens_per_s),
        shown(run.busy_tokens_per_cpu_s),
        shown(run.good_per_s),
        ", ".join(map(shown, run.first_ms)),
        ", ".join(map(shown, run.gap_ms)),
        shown(run.worst_gap_ms),
        f"{shown(run.whole_ms[0])}, {shown(run.whole_ms[2])}",
        shown(run.host_ms),
        shown(run.padding),
        shown(run.prefix_hits),
    )


def _medians(rounds: Sequence[Sequence[Run]], rate: str) -> Iterable[tuple[str, ...]]:
    """Of each contestant the round whose rate is the median."""
    for column in _columns(rounds):
        ranked = sorted(column, key=lambda run: run.tokens_per_s)
        run = ranked[(len(ranked) - 1) // 2]
        own = "" if run.contestant == "ours" else str(goals.ratio(rounds, run.contestant, rate))
        yield (*_row(run), own)


def _rates(rounds: Sequence[Sequence[Run]]) -> dict[str, float]:
    return {column[0].contestant: middle([run.tokens_per_s for run in column]) for column in _columns(rounds)}


def _columns(rounds: Sequence[Sequence[Run]]) -> list[list[Run]]:
    """All runs of each contestant, in the order of the first round."""
    names = [run.contestant for run in rounds[0]] if rounds else []
    return [[run for runs in rounds for run in runs if run.contestant == name] for name in names]


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    word = verdict.word if verdict.word in {"reached", "by test"} else f"**{verdict.word}**"
    return verdict.goal, verdict.what, verdict.wanted, verdict.found, word


def _left_out(names: Sequence[str]) -> str:
    return "## No time for\n\n" + "".join(f"- {name}\n" for name in names) if names else ""
