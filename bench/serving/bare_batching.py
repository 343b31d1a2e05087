"""transformers' own continuous batching as a contestant, with the settings that serve a trace best."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence as Asks
from dataclasses import fields
from typing import Any

from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from bench.serving.answers import Answer, Run, Stopwatch, run_of
from bench.serving.shapes import Shape, make
from bench.serving.traces import Ask

_STALLED_S = 120.0
_KNOWN = {field.name for field in fields(ContinuousBatchingConfig)}
_PAGE = "page_size" if "page_size" in _KNOWN else "block_size"  # so named before transformers 5.18
PAGE_TOKENS = 32
_settings: Any = GenerationConfig
BATCH_TOKENS = (128, 512, 2048)  # tried; the best is taken


class BareBatching:
    """``tokens`` is the size of its cache."""

    name = "bare batching"

    def __init__(self, shape: Shape, device: str, tokens: int, trial: Asks[Ask], users: int) -> None:
        self._loaded = make(shape, device)
        self._tokens = tokens
        rates = {size: self._rate(size, trial, users) for size in BATCH_TOKENS}
        self.rates = rates
        self._manager = self._started(max(rates, key=lambda size: rates[size]))

    def serve(self, asks: Asks[Ask], users: int | None, load: str) -> tuple[Run, list[Answer]]:
        watch = Stopwatch()
        answers = _served(self._manager, asks, users or len(asks), watch)
        return run_of(self.name, load, answers, watch), answers

    def close(self) -> None:
        self._manager.stop(block=True)

    def _rate(self, batch_tokens: int, trial: Asks[Ask], users: int) -> float:
        try:
            manager = self._started(batch_tokens)
            try:
                watch = Stopwatch()
                return run_of(self.name, "trial", _served(manager, trial, users, watch), watch).tokens_per_s
            finally:
                manager.stop(block=True)
        except (RuntimeError, ValueError) as error:  # a setting that this machine cannot bear is not the best
            print(f"bare batching with {batch_tokens} tokens a batch: {error}")
            return 0.0

    def _started(self, batch_tokens: int) -> Any:
        told: dict[str, Any] = {_PAGE: PAGE_TOKENS, "max_batch_tokens": batch_tokens}
        told["num_blocks"] = self._tokens // PAGE_TOKENS
        manager = self._loaded.model.init_continuous_batching(
            generation_config=_settings(max_new_tokens=64, do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(**told),
        )
        if self._loaded.device.type == "cuda" and hasattr(manager, "warmup"):
            manager.warmup()
        manager.start()
        return manager


def _served(manager: Any, asks: Asks[Ask], users: int, watch: Stopwatch) -> list[Answer]:
    answers = [Answer(0.0) for _ in asks]
    names: dict[str, int] = {}
    todo = iter(range(len(asks)))

    def ask() -> None:
        if (at := next(todo, None)) is None:
            return
        answers[at].asked_s = watch.now_s
        name = manager.add_request(
            list(asks[at].prompt), max_new_tokens=asks[at].new_tokens, record_timestamps=True, eos_token_id=-1
        )
        if name is None:
            raise RuntimeError("its loop is dead")
        names[name] = at
        if at == len(asks) - 1:
            watch.note_last_question()

    for _ in range(users):
        ask()
    left, heard_at = len(asks), time.perf_counter()
    while left:
        found = manager.get_result(timeout=1.0)
        if found is None:
            _check(manager, heard_at)
            continue
        heard_at = time.perf_counter()
        if found.error:
            raise RuntimeError(found.error)
        if not found.is_finished():
            continue
        answer = answers[names[found.request_id]]
        answer.token_s = [watch.since(at) for at in found.timestamps or []]
        answer.done_s = answer.token_s[-1] if answer.token_s else watch.since(heard_at)
        answer.tokens = list(found.generated_tokens)
        left -= 1
        ask()
    if users >= len(asks):
        watch.note_last_question()
    assert not any(math.isnan(answer.done_s) for answer in answers)
    return answers


def _check(manager: Any, heard_at: float) -> None:
    if error := manager.background_thread_status.fatal_error:
        raise RuntimeError(f"its loop died: {error}")
    if time.perf_counter() - heard_at > _STALLED_S:
        raise RuntimeError(f"nothing came for {_STALLED_S:.0f} s")
