"""The engines of this process: each built once, at its first use, and anew when its row changed."""

from __future__ import annotations

import threading
from datetime import datetime
from uuid import UUID

from inference.base import Engine
from inference.loading import build
from inference.models import LanguageModel

_engines: dict[UUID, tuple[datetime, Engine]] = {}
_building: dict[UUID, threading.Lock] = {}
_guard = threading.Lock()


def engine_of(model: LanguageModel) -> Engine:
    """The engine of a model; the first caller builds it while the others wait. Raises InferenceError."""
    with _lock_of(model.pk):
        built_for, engine = _engines.get(model.pk, (None, None))
        if engine is None or built_for is None or built_for < model.updated_at:  # old snapshots may be in flight
            fresh = build(model)
            _engines[model.pk] = (model.updated_at, fresh)
            if engine:
                _retire(engine)
            return fresh
        return engine


def _lock_of(model_id: UUID) -> threading.Lock:
    with _guard:
        return _building.setdefault(model_id, threading.Lock())


def _retire(engine: Engine) -> None:
    """Let what runs on the old engine end, then free it."""

    def end() -> None:
        engine.drain(600)
        engine.close()

    threading.Thread(target=end, name="engine-retire", daemon=True).start()


def close_all() -> None:
    """For a process that ends, and for tests."""
    with _guard:
        engines = [engine for _, engine in _engines.values()]
        _engines.clear()
    for engine in engines:
        engine.close()
