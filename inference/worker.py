"""The engines of this process: each built once, at its first use, and anew when what it is built from changed."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from inference.base import Engine
from inference.engines.openai import OpenAIEngine
from inference.errors import EngineDown, InferenceError, ShuttingDown
from inference.loading import build
from inference.models import LanguageModel, WorkerState

logger = logging.getLogger(__name__)
State, Status = WorkerState.State, LanguageModel.Status

REBUILD_AFTER_S = 15.0  # what could not be built is not tried again at every question
FAILED_CHECKS_TO_OPEN = 2  # one may be a hiccup
_SHAPE = (
    "engine",
    "path",
    "base_url",
    "model",
    "max_context_tokens",
    "max_concurrency",
    "first_token_timeout_s",
    "between_tokens_timeout_s",
)


@dataclass(slots=True)
class Slot:
    """One model in this process."""

    model_id: UUID
    name: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    state: str = State.LOADING
    detail: str = ""
    engine: Engine | None = None
    built_for: datetime | None = None  # the row's ``updated_at``
    shape: tuple[Any, ...] = field(default=(), repr=False)
    failed_at_s: float = 0.0  # monotonic
    heard_at: datetime | None = None  # of the last health check that was heeded


_slots: dict[UUID, Slot] = {}
_guard = threading.Lock()
_draining = threading.Event()


def engine_of(model: LanguageModel) -> Engine:
    """The engine of a model; the first caller builds it while the others wait. Raises InferenceError."""
    if _draining.is_set():
        raise ShuttingDown("this worker is ending")
    slot = _slot_of(model)
    with slot.lock:
        if slot.built_for is None or slot.built_for < model.updated_at:  # old snapshots may be in flight
            _follow(slot, model)
        if slot.engine is None:
            _build(slot, model)
        assert slot.engine is not None
        _heed_check(slot, slot.engine, model)
        return slot.engine


def slots() -> list[Slot]:
    with _guard:
        return list(_slots.values())


def _slot_of(model: LanguageModel) -> Slot:
    with _guard:
        slot = _slots.setdefault(model.pk, Slot(model.pk))
        slot.name = model.name
        return slot


def _follow(slot: Slot, model: LanguageModel) -> None:
    """The row has changed. A new price or name is nothing to an engine; a new place is."""
    if slot.engine is not None and slot.shape != _shape_of(model):
        _retire(slot.engine)
        slot.engine = None
    slot.built_for, slot.failed_at_s = model.updated_at, 0.0


def _build(slot: Slot, model: LanguageModel) -> None:
    if slot.failed_at_s and time.monotonic() - slot.failed_at_s < REBUILD_AFTER_S:
        raise EngineDown(slot.detail)
    slot.state, slot.detail = State.LOADING, ""
    try:
        slot.engine = build(model)
    except InferenceError as error:
        slot.state, slot.detail, slot.failed_at_s = State.FAILED, str(error), time.monotonic()
        raise
    slot.state, slot.shape = State.READY, _shape_of(model)


def _shape_of(model: LanguageModel) -> tuple[Any, ...]:
    """What an engine is built from. Secrets stand for themselves by their ciphertext."""
    keys = [(row.pk, row.is_enabled, _sealed(row, "key")) for row in model.keys.all()]
    files = sorted(model.digests.items())
    return (*(getattr(model, name) for name in _SHAPE), _sealed(model, "api_key"), tuple(keys), tuple(files))


def _sealed(row: Any, name: str) -> Any:
    held = row._meta.get_field(name).stored(row)
    return getattr(held, "data", held)


def _heed_check(slot: Slot, engine: Engine, model: LanguageModel) -> None:
    """What the health check found, wherever it ran, opens and closes the breaker here."""
    if not isinstance(engine, OpenAIEngine) or model.checked_at is None or not model.is_check_fresh:
        return
    if slot.heard_at is not None and model.checked_at <= slot.heard_at:
        return
    slot.heard_at = model.checked_at
    if model.status == Status.OK:
        engine.breaker.succeeded()
    elif model.failed_checks >= FAILED_CHECKS_TO_OPEN:
        engine.breaker.trip(model.status_detail)


def _retire(engine: Engine) -> None:
    """Let what runs on the old engine end, then free it."""

    def end() -> None:
        engine.drain(600)
        engine.close()

    threading.Thread(target=end, name="engine-retire", daemon=True).start()


def forget(slot: Slot) -> None:
    """Its engine is of no use any more: the next question builds it anew, a little later."""
    with slot.lock:
        if slot.engine is not None:
            _retire(slot.engine)
        slot.engine, slot.failed_at_s = None, time.monotonic()
        slot.state, slot.detail = State.FAILED, "the engine broke several times; it is built anew in some seconds"


def drain_all(deadline_s: float) -> None:
    """For a worker that ends: nothing new begins, what runs may end, the rest is cut with finish ``shutdown``."""
    _draining.set()
    engines = []
    for slot in slots():
        slot.state = State.DRAINING
        engines += [slot.engine] if slot.engine else []
    threads = [threading.Thread(target=engine.drain, args=(deadline_s,), daemon=True) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline_s + 5)


def close_all() -> None:
    """For a process that ends, and for tests."""
    with _guard:
        engines = [slot.engine for slot in _slots.values() if slot.engine]
        _slots.clear()
    _draining.clear()
    for engine in engines:
        engine.close()
