"""Whether a language model answers: asked with a short prompt, by hand or every minute, and kept on its row."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone

from inference.base import ChatMessage, Engine, GenRequest, Result, SamplingParams
from inference.engines.checking import SHORTEST_WRITING_S, Health
from inference.engines.openai import OpenAIEngine
from inference.errors import InferenceError, QueueFull, ShuttingDown
from inference.models import LanguageModel
from inference.worker import engine_of
from monitoring.health import Unfit

PROMPT = "Say hello."
TIMEOUT_S = 15.0
TOO_MANY = 429
LOCAL_TIMEOUT_S = 60.0  # its turn comes after those who wait
MOST_NAMED = 10
AT_ONCE = 8  # services that do not answer take half a minute each
RESULT_FIELDS = ("status", "status_detail", "checked_at", "failed_checks", "first_token_ms", "tokens_per_s")


@dataclass(frozen=True, slots=True)
class ModelState:
    """What is known of one model. ``is_fresh`` is false when nobody has asked it for some minutes; ``is_used`` says
    whether an enabled bot would ask it."""

    name: str
    engine: str
    queue: str
    status: str
    detail: str
    checked_at: datetime | None
    is_fresh: bool
    is_used: bool
    first_token_ms: int | None
    tokens_per_s: float | None


def states() -> list[ModelState]:
    """The last state of every model, by name: for the dashboard, alerts and ``doctor``. Two queries, asks no model."""
    used = set(in_use().values_list("pk", flat=True))
    return [_state(model, is_used=model.pk in used) for model in LanguageModel.objects.order_by("name")]


def answering() -> str:
    """A probe of what bots use, by the last checks. Raises Unfit with the names of those that do not answer."""
    used = [state for state in states() if state.is_used]
    failing = [state.name for state in used if state.is_fresh and state.status == LanguageModel.Status.FAILING]
    if failing:
        raise Unfit(f"{len(failing)} of {len(used)} do not answer: {', '.join(failing[:MOST_NAMED])}")
    return f"{sum(state.is_fresh for state in used)} of {len(used)} answered their last check"


def in_use() -> QuerySet[LanguageModel]:
    """Models that an enabled bot asks, first or when its first one fails."""
    asked = Q(bots__is_enabled=True) | Q(fallback_bots__is_enabled=True)
    return LanguageModel.objects.filter(asked).distinct()


def check_used(ask_worker: Callable[[LanguageModel], None]) -> None:
    """Check what bots use: services from here, local models by ``ask_worker`` where they are loaded."""
    used = list(in_use().filter(is_checked_often=True))
    for model in used:
        if model.engine == LanguageModel.Engine.TRANSFORMERS:
            ask_worker(model)
    services = [model for model in used if model.engine == LanguageModel.Engine.OPENAI]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="check") as pool:
        list(pool.map(_check_in_thread, services))


def _check_in_thread(model: LanguageModel) -> None:
    try:
        with suppress(ShuttingDown):
            check(model)
    finally:
        connection.close()  # the thread ends with the look


def check(model: LanguageModel) -> Health:
    """Ask the model something and store what came of it. Takes up to two timeouts, or as long as loading it does.

    Raises ShuttingDown where this process ends: that says nothing about the model.
    """
    health = _asked(model)
    model.status = LanguageModel.Status.OK if health.ok else LanguageModel.Status.FAILING
    if health.status != TOO_MANY:  # that is what a service says that is well
        model.failed_checks = 0 if health.ok else model.failed_checks + 1
    model.status_detail, model.checked_at = summary(health), timezone.now()
    model.first_token_ms = None if health.first_token_s is None else round(health.first_token_s * 1000)
    model.tokens_per_s = health.tokens_per_s
    LanguageModel.objects.filter(pk=model.pk).update(**{name: getattr(model, name) for name in RESULT_FIELDS})
    return health


def summary(health: Health) -> str:
    if not health.ok:
        code = f"HTTP {health.status}: " if health.status else ""
        return f"{code}{health.error}"[:300]
    took = f"{health.first_token_s * 1000:.0f} ms: " if health.first_token_s is not None else ""
    pace = f" ({health.tokens_per_s:.0f} tokens/s)" if health.tokens_per_s else ""
    return f"{took}{' '.join(health.text.split())[:200]}{pace}"


def _state(model: LanguageModel, *, is_used: bool) -> ModelState:
    return ModelState(
        name=model.name,
        engine=model.engine,
        queue=model.queue,
        status=model.status,
        detail=model.status_detail,
        checked_at=model.checked_at,
        is_fresh=model.is_check_fresh,
        is_used=is_used,
        first_token_ms=model.first_token_ms,
        tokens_per_s=model.tokens_per_s,
    )


def _asked(model: LanguageModel) -> Health:
    try:
        engine = engine_of(model)
        return engine.check(PROMPT, TIMEOUT_S) if isinstance(engine, OpenAIEngine) else _first_words(engine)
    except ShuttingDown:
        raise
    except QueueFull as error:
        return Health(True, 200, str(error))  # busy, and so alive
    except InferenceError as error:
        return Health(False, error=str(error))


def _first_words(engine: Engine) -> Health:
    sampling = SamplingParams(max_new_tokens=32)
    reply = engine.submit(
        GenRequest(f"check-{uuid.uuid4()}", (ChatMessage("user", PROMPT),), sampling, LOCAL_TIMEOUT_S)
    )
    result = reply.result()
    is_ok = result.finish in ("stop", "length", "repetition") and bool(result.text.strip())
    error = "" if is_ok else result.error or f"it ended with {result.finish} and no text"
    return Health(is_ok, 200 if is_ok else 0, result.text, result.timings.first_token_s, error, _pace(result))


def _pace(result: Result) -> float | None:
    """Tokens a second after the first one."""
    writing_s = result.timings.total_s - (result.timings.first_token_s or 0.0)
    written = result.usage.completion_tokens - 1
    return written / writing_s if written > 0 and writing_s > SHORTEST_WRITING_S else None
