"""How much is measured, and with what. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from inference.engines.local.limits import EngineLimits


@dataclass(frozen=True, slots=True)
class Plan:
    """One part after the other, until ``minutes`` are over; what there was no time for is named in the report."""

    name: str
    device: str
    minutes: float
    shapes: tuple[str, ...]  # the first is compared with others
    limits: EngineLimits
    asks: int  # of the comparison's trace
    rounds: int
    bar_asks: int  # of 16 people
    plain_nth: int  # plain ``generate`` gets each so many-th question: it would take as many times as long
    static_nth: int
    static: tuple[int, ...]  # sizes
    users: tuple[int, ...]
    long_contexts: tuple[tuple[int, int, int], ...]  # requests, prompt and new tokens: against bare batching
    decode: tuple[tuple[int, int], ...]  # batch, context
    followups: tuple[str, ...]  # shapes
    open_asks: int
    loads: tuple[float, ...] = (0.5, 0.7, 0.9)  # of the closed loop's rate


_CPU_LIMITS = EngineLimits(max_running=64, kv_cache_pages=10_000, prefill_tokens=512, max_context_tokens=8192)
_GPU_LIMITS = EngineLimits(
    max_running=256, kv_cache_bytes=48 * 2**30, prefill_tokens=2048, max_context_tokens=8192
)  # others need room beside it


def plan_for(device: str, *, quick: bool, minutes: float | None) -> Plan:
    if device == "cpu":
        return _cpu_quick(minutes or 2.0) if quick else _cpu_full(minutes or 30.0)
    return _gpu(minutes or (3.0 if quick else 12.0), "quick" if quick else "full")


def _cpu_quick(minutes: float) -> Plan:
    return Plan(
        name="quick",
        device="cpu",
        minutes=minutes,
        shapes=("tiny Qwen3",),
        limits=_CPU_LIMITS,
        asks=24,
        rounds=2,
        bar_asks=16,
        plain_nth=8,
        static_nth=1,
        static=(16,),
        users=(1, 16),
        long_contexts=(),
        decode=((1, 256), (16, 256)),
        followups=("tiny Qwen3",),
        open_asks=16,
        loads=(0.7,),
    )


def _cpu_full(minutes: float) -> Plan:
    return Plan(
        name="full",
        device="cpu",
        minutes=minutes,
        shapes=("tiny Qwen3", "tiny Llama", "tiny Mistral"),
        limits=_CPU_LIMITS,
        asks=192,
        rounds=3,
        bar_asks=32,
        plain_nth=12,
        static_nth=6,
        static=(16,),
        users=(1, 16, 64, 256),
        long_contexts=((64, 704, 64), (64, 512, 256)),
        decode=((1, 256), (16, 256), (64, 256)),
        followups=("tiny Qwen3", "Qwen3-8B, two layers"),
        open_asks=48,
        loads=(0.7,),
    )


def _gpu(minutes: float, name: str) -> Plan:
    return Plan(
        name=name,
        device="cuda",
        minutes=minutes,
        shapes=("Qwen3-0.6B", "Qwen3-8B"),
        limits=_GPU_LIMITS,
        asks=256,
        rounds=3,
        bar_asks=32,
        plain_nth=64,
        static_nth=2,
        static=(16, 64),
        users=(1, 16, 64, 256),
        long_contexts=((64, 896, 128), (256, 896, 128)),
        decode=((1, 1024), (16, 1024), (64, 1024), (256, 1024)),
        followups=("Qwen3-8B",),
        open_asks=256,
    )
