"""Traces that follow one message through web, worker, model and platform. Off: no package is loaded, nothing is done.

``span`` and the rest may be called anywhere. Attributes are names, numbers and ids of ours: never what people write,
an address with a key, or who they are. What a message's trace is made of: docs/monitoring.md, "Traces".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from django.conf import settings

if TYPE_CHECKING:
    from monitoring.tracing.doors import Request, Storing
    from monitoring.tracing.recording import Recorder

logger = logging.getLogger(__name__)
Kind = Literal["internal", "server", "client"]
Work = Callable[[], None]
Value = str | int | float | bool
UNTRACED: Final = ("/livez", "/readyz", "/metrics", "/static/")
_NOTHING: Final = nullcontext()
_recorder: Recorder | None = None


def start(role: str) -> None:
    """``role``: embedded, site, worker, scheduler or listener. The first call decides."""
    global _recorder
    if not settings.TRACES or _recorder is not None:
        return
    try:
        # By name: where traces are off their packages need not be there.
        recording = import_module("monitoring.tracing.recording")
    except ModuleNotFoundError as error:
        logger.error("traces are off: a package is missing", extra={"package": error.name})
        return
    _recorder = recording.Recorder(role, settings.TRACES)


def end() -> None:
    """Send what waits, for two seconds at most."""
    global _recorder
    if _recorder is not None:
        _recorder.close()
        _recorder = None


# -- what was done --


def span(name: str, kind: Kind = "internal", **attributes: Value) -> AbstractContextManager[None]:
    """What is done inside is one span of the trace at hand; an exception marks it by its type alone."""
    return _recorder.span(name, kind, attributes) if _recorder else _NOTHING


def past(name: str, since: datetime, **attributes: Value) -> None:
    """A span that ends now."""
    if _recorder:
        _recorder.past(name, since, attributes)


def note(**attributes: Value) -> None:
    """Add to the innermost span."""
    if _recorder:
        _recorder.note(attributes)


def failed(what: str) -> None:
    """Mark the innermost span, where no exception does."""
    if _recorder:
        _recorder.failed(what)


def event(name: str) -> None:
    """Mark this moment in the innermost span."""
    if _recorder:
        _recorder.event(name)


def step(name: str) -> None:
    """Calls made from now on, inside the innermost span, are this step of a delivery; an empty name ends it."""
    if _recorder:
        _recorder.step(name)


# -- whose trace it is --


def of_message(message_id: UUID, conversation_id: UUID, details: Mapping[str, Any]) -> AbstractContextManager[None]:
    """What is done inside belongs to the trace of this message. ``details``: as they were stored."""
    if _recorder is None:
        return _NOTHING
    return _recorder.of_message(message_id, conversation_id, str(details.get("traceparent", "")))


def request(scope: Mapping[str, Any]) -> Request | None:
    """A request begins; the caller ends it."""
    if _recorder is None or scope["path"].startswith(UNTRACED):
        return None
    return _recorder.request(scope)


def storing(details: dict[str, Any]) -> Storing | None:
    """A message is handed over to be stored, with these details; the caller says when it is."""
    return _recorder.storing(details) if _recorder else None


# -- what is handed on --


def carrier() -> Callable[[Work], Work]:
    """For another thread: the work that it is given belongs, wherever it is done, to the span at hand here and now."""
    return _recorder.carrier() if _recorder else _unchanged


def _unchanged(work: Work) -> Work:
    return work


def traceparent() -> str:
    """The W3C header by which a service of ours continues the trace; empty without one."""
    return _recorder.traceparent() if _recorder else ""


def log_fields() -> Mapping[str, str]:
    """``trace_id`` and ``span_id`` of the span at hand."""
    return _recorder.log_fields() if _recorder else {}
