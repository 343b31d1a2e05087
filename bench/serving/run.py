"""All parts of a plan, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import torch

from bench.machine import bare_facts
from bench.serving import demo, parts
from bench.serving.parts import Clock, Results
from bench.serving.plans import Plan
from bench.serving.report import Report

Part = Callable[[Results, Plan, Clock, float, Callable[[str], None]], None]

# Each with the share of the time after which it begins nothing new.
_ON_CPU: tuple[tuple[str, Part, float], ...] = (
    ("decode", parts.decoding, 0.1),
    ("followups", parts.followups, 0.15),
    ("bar", parts.bar, 0.25),
    ("compare", parts.compare, 0.68),
    ("long", parts.long_contexts, 0.85),
    ("loops", parts.loops, 0.97),
)
_ON_GPU: tuple[tuple[str, Part, float], ...] = (
    ("decode", parts.decoding, 0.3),
    ("followups", parts.followups, 0.35),
    ("loops", parts.loops, 0.6),
    ("bar", parts.bar, 0.65),
    ("long", parts.long_contexts, 0.8),
    ("compare", parts.compare, 0.97),
)


def measure(plan: Plan, names: list[str], command: str, say: Callable[[str], None]) -> Report:
    """A part that fails is named in the report; the others go on."""
    torch.set_grad_enabled(False)
    report = Report(plan, command, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), _facts(plan), Results())
    results, clock = report.results, Clock(plan.minutes)
    if plan.device == "cpu" and "demo" in names:
        results.demo = demo.measure()
        say(f"demo model: first text p99 {results.demo.first_ms[1]:.0f} ms, answer {results.demo.whole_ms[2]:.0f} ms")
    for name, part, until in _ON_CPU if plan.device == "cpu" else _ON_GPU:
        if name in names:
            try:
                part(results, plan, clock, until, say)
            except (RuntimeError, AssertionError, ValueError, TypeError) as error:  # hours of others must not be lost
                results.left_out.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
                say(results.left_out[-1])
    return report


def _facts(plan: Plan) -> dict[str, str]:
    facts = bare_facts("torch", "transformers", "triton")
    facts["threads of torch"] = str(torch.get_num_threads())
    if plan.device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        facts["GPU"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return facts
