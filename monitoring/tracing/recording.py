"""The spans of a process, by OpenTelemetry's SDK; loaded only where traces are on.

Where a thread or task stands in a trace is kept here and not in OpenTelemetry's own context: a span may begin later
than its ids, and its ids may be a message's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from monitoring.client_ip import is_trusted_proxy
from monitoring.tracing import Kind, Work, ids, writing
from monitoring.tracing.doors import Request, Storing
from monitoring.tracing.exporting import Exporter
from monitoring.tracing.writing import Values

KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}


@dataclass(slots=True)
class Here:
    """What new spans are children of, and what they say besides. Of a request that has no ids yet: the request."""

    context: SpanContext | None = None
    span: Span | None = None
    about: Values = field(default_factory=dict)
    step: str = ""
    request: Request | None = None

    @property
    def parent(self) -> SpanContext | None:
        return self.request.fixed() if self.request else self.context


_NOWHERE: Final = Here()
_here: ContextVar[Here] = ContextVar("trace", default=_NOWHERE)
_given_ids: ContextVar[tuple[int, int]] = ContextVar("given_ids", default=(0, 0))


class _Ids(RandomIdGenerator):
    """Random ones, unless a span is begun with ids of its own."""

    def generate_trace_id(self) -> int:
        return _given_ids.get()[0] or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return _given_ids.get()[1] or super().generate_span_id()


class Recorder:
    """The spans of this process. ``config``: as in ``settings.TRACES``."""

    def __init__(self, role: str, config: dict[str, Any]) -> None:
        self._sampler = writing.sampler(config)
        self._new = _Ids()
        self._provider = TracerProvider(
            sampler=self._sampler,
            resource=writing.resource(role, config["version"]),
            shutdown_on_exit=False,
            id_generator=self._new,
        )
        self._provider.add_span_processor(Exporter(config))
        self._tracer = self._provider.get_tracer("clawdbot")

    def close(self) -> None:
        self._provider.shutdown()

    # -- spans --

    @contextmanager
    def span(self, name: str, kind: Kind, values: Values) -> Iterator[None]:
        here = _here.get()
        steps = {"step": here.step} if here.step else {}
        span = self.begun(name, here.parent, {**here.about, **steps, **values}, kind)
        token = _here.set(Here(span.get_span_context(), span, here.about))
        try:
            yield
        except BaseException as error:  # marked on the span, and raised again
            self.mark_failed(span, type(error).__name__)
            raise
        finally:
            _here.reset(token)
            span.end()

    def past(self, name: str, since: datetime, values: Values) -> None:
        here = _here.get()
        began_ns = min(int(since.timestamp() * 1e6) * 1000, time.time_ns())  # another host's clock may be ahead
        self.begun(name, here.parent, {**here.about, **values}, began_ns=began_ns).end()

    def note(self, values: Values) -> None:
        if span := _here.get().span:
            span.set_attributes(writing.attributes(values))

    def failed(self, what: str) -> None:
        if span := _here.get().span:
            self.mark_failed(span, what)

    def event(self, name: str) -> None:
        if span := _here.get().span:
            span.add_event(name)

    def step(self, name: str) -> None:
        here = _here.get()
        if here is not _NOWHERE:
            here.step = name

    def begun(
        self,
        name: str,
        parent: SpanContext | None,
        values: Values,
        kind: Kind = "internal",
        *,
        began_ns: int | None = None,
        own: SpanContext | None = None,
    ) -> Span:
        """A span that somebody has to end. ``own``: the ids it has already."""
        context = set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        token = _given_ids.set((own.trace_id, own.span_id) if own else (0, 0))
        try:
            return self._tracer.start_span(
                name, context, KINDS[kind], writing.attributes(values), start_time=began_ns, record_exception=False
            )
        finally:
            _given_ids.reset(token)

    def mark_failed(self, span: Span, reason: str) -> None:
        span.set_status(Status(StatusCode.ERROR, reason))

    # -- whose trace it is --

    @contextmanager
    def of_message(self, message_id: UUID, conversation_id: UUID, traceparent: str) -> Iterator[None]:
        about = {"message_id": str(message_id), "conversation_id": str(conversation_id)}
        token = _here.set(Here(writing.parsed({"traceparent": traceparent}) or self.root_of(message_id), about=about))
        try:
            yield
        finally:
            _here.reset(token)

    def root_of(self, message_id: UUID) -> SpanContext:
        """The first span of a message's own trace, whichever process writes it."""
        trace_id, span_id = ids.of_message(message_id)
        return self._context(trace_id, span_id, None)

    def new_context(self, parent: SpanContext | None) -> SpanContext:
        """Ids for a span that will be begun later."""
        trace_id = parent.trace_id if parent else self._new.generate_trace_id()
        return self._context(trace_id, self._new.generate_span_id(), parent)

    def _context(self, trace_id: int, span_id: int, parent: SpanContext | None) -> SpanContext:
        """The sampler decides here as it will when the span is begun: by trace and parent alone."""
        around = set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        is_kept = self._sampler.should_sample(around, trace_id, "").decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if is_kept else TraceFlags.DEFAULT)
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)

    def request(self, scope: Mapping[str, Any]) -> Request:
        """Continues a trace of which one of our proxies tells; anybody else might write what he likes."""
        peer = str((scope.get("client") or ("",))[0] or "")
        parent = writing.parsed(writing.w3c_headers(scope)) if is_trusted_proxy(peer) else None
        request = Request(self, parent)
        _here.set(Here(request=request))  # for its task, which is its own and ends with it
        return request

    def storing(self, details: dict[str, Any]) -> Storing:
        return Storing(self, _here.get().request, details)

    # -- what is handed on --

    def carrier(self) -> Callable[[Work], Work]:
        here = replace(_here.get())

        def run(work: Work) -> None:
            token = _here.set(here)
            try:
                work()
            finally:
                _here.reset(token)

        return lambda work: partial(run, work)

    def traceparent(self) -> str:
        parent = _here.get().parent
        return writing.header(parent) if parent else ""

    def header(self, context: SpanContext) -> str:
        return writing.header(context)

    def log_fields(self) -> Mapping[str, str]:
        parent = _here.get().parent
        return {"trace_id": f"{parent.trace_id:032x}", "span_id": f"{parent.span_id:016x}"} if parent else {}
