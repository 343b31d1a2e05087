"""How much one engine takes on. Plain numbers; what is None is chosen when the model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """``max_waiting`` come on top of ``max_running``. ``kv_cache_bytes`` bounds the memory for keys and values."""

    max_running: int = 16
    max_waiting: int = 64
    max_context_tokens: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_pages: int | None = None  # exactly so many, whatever they weigh
    prefill_tokens: int = 512  # of prompts, at most, in one step
    step_goal_s: float = 0.05  # a step with prompts in it should not hold up the others for longer
    jump_ahead_s: float = 2.0  # a prompt that waited longer lets no shorter one pass
    look_ahead: bool | None = None  # plan a step before the last one's tokens are known; None: on a GPU
    graphs: bool | None = None  # record steps of single tokens and repeat them; None: on a GPU
