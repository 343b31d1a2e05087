"""A run as JSON and as Markdown. Pure, but for the machine's name for itself."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from tests.chaos.conductor import Options, Outcome
from tests.chaos.matrix import MATRIX

MOST_NAMES = 20


def as_json(options: Options, outcome: Outcome) -> str:
    kills = Counter(f"{kill.victim} {kill.stage}" for kill in outcome.kills)
    found = {**asdict(outcome), "kills": kills, "every_kill": [asdict(kill) for kill in outcome.kills]}
    return json.dumps({"options": asdict(options), "machine": machine(), **found}, indent=1) + "\n"


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def markdown(options: Options, outcome: Outcome, command: Sequence[str]) -> str:
    lines = ["# The kill matrix", "", *_summary(options, outcome, command), "", *_faults(outcome), ""]
    return "\n".join([*lines, *_matrix(outcome), ""])


def _summary(options: Options, outcome: Outcome, command: Sequence[str]) -> list[str]:
    verdict = outcome.verdict
    rate = verdict.asked / outcome.sending_s
    switched_off = f" The safeguard `{options.without}` was switched off." if options.without else ""
    return [
        f"`{shlex.join(command)}`, seed {options.seed}, on {machine()}.{switched_off}",
        "",
        f"{verdict.asked} messages in {options.conversations} chats within {outcome.sending_s:.0f} s"
        f" ({rate:.1f} a second), {len(outcome.kills)} kills."
        f" All was settled {outcome.settling_s:.0f} s after the last message.",
        f"Delivered again under the same id: {outcome.repeated} at once,"
        f" {outcome.repeated_after_restart} after a restart.",
        f"At the end: {', '.join(f'{count} {status}' for status, count in sorted(outcome.statuses.items()))}.",
        f"Sends that a kill cut off: {outcome.interrupted} messages.",
        f"Processes that ended unasked: {_counted(f'{kind} ({status})' for kind, status in outcome.unasked)}.",
        f"Planned kills for which no message came in time: {_counted(map(' '.join, outcome.missed))}.",
    ]


def _counted(names: object) -> str:
    counts = Counter(names)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _faults(outcome: Outcome) -> list[str]:
    verdict = outcome.verdict
    kinds = ("lost", "disordered", "doubled", "strays", "refused", "unconfirmed", "unexplained")
    found = {**{kind: getattr(verdict, kind) for kind in kinds}, "still waiting": outcome.waiting}
    rows = [f"| {kind} | {len(names)} | {', '.join(names[:MOST_NAMES])} |" for kind, names in found.items()]
    meaning = "`unconfirmed` is allowed where a kill cut off a send without an id; `unexplained` counts the others."
    return ["| what people notice | messages | which |", "|---|---|---|", *rows, "", meaning]


def _matrix(outcome: Outcome) -> list[str]:
    counts = Counter((kill.victim, kill.stage) for kill in outcome.kills)
    stages = list(dict.fromkeys(stage for its in MATRIX.values() for stage in its))
    head = ["| kills in stage | " + " | ".join(MATRIX) + " |", "|---" * (len(MATRIX) + 1) + "|"]
    rows = [_row(stage, [_cell(counts, victim, stage) for victim in MATRIX]) for stage in stages]
    totals = [str(sum(counts[victim, stage] for stage in stages)) for victim in MATRIX]
    return [*head, *rows, _row("all", totals)]


def _cell(counts: Counter[tuple[str, str]], victim: str, stage: str) -> str:
    return str(counts[victim, stage]) if stage in MATRIX[victim] else ""


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"
