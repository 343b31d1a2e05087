"""Where traces begin: a request, and a message on its way into the database.

A request's span is written at its end. Until somebody asks for them its ids are open: so the request that brings a
message becomes the first span of the message's trace. One that has ids already (a proxy's trace, a line in the log)
keeps them, and the message joins it: then ``traceparent`` stands among the message's details.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from monitoring.context import current

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from monitoring.tracing.recording import Recorder
    from monitoring.tracing.writing import Values


class Request:
    def __init__(self, recorder: Recorder, parent: SpanContext | None) -> None:
        self._recorder, self._parent = recorder, parent
        self._began_ns = time.time_ns()
        self.about: Values = {}
        self.context = recorder.new_context(parent) if parent else None

    def fixed(self) -> SpanContext:
        """Its ids, from now on for good."""
        if self.context is None:
            self.context = self._recorder.new_context(None)
        return self.context

    def begin_trace_of(self, message: SpanContext) -> None:
        self.context = message

    def end(self, route: str, method: str, status: int) -> None:
        answer: Values = {"route": route, "method": method, "http_status": status, "request_id": current().request_id}
        values = {**self.about, **answer}
        span = self._recorder.begun(
            f"{method} {route}", self._parent, values, "server", began_ns=self._began_ns, own=self.fixed()
        )
        if status >= 500:
            self._recorder.mark_failed(span, f"HTTP {status}")
        span.end()


class Storing:
    def __init__(self, recorder: Recorder, request: Request | None, details: dict[str, Any]) -> None:
        self._recorder, self._request = recorder, request
        self._began_ns = time.time_ns()
        self._request_id = current().request_id
        self._joins = request.context if request else None
        if self._joins:
            details["traceparent"] = recorder.header(self._joins)

    def done(self, message_id: UUID, conversation_id: UUID, *, is_new: bool) -> None:
        """It is in the database, now or (a repeat) for long."""
        about = {"message_id": str(message_id), "conversation_id": str(conversation_id)}
        values: Values = {**about, "request_id": self._request_id, "is_repeat": not is_new}
        parent, own = self._place(message_id, is_new)
        if self._request:
            self._request.about = about
        self._recorder.begun("store", parent, values, began_ns=self._began_ns, own=own).end()

    def _place(self, message_id: UUID, is_new: bool) -> tuple[SpanContext | None, SpanContext | None]:
        """What the span is a child of, or (with nothing before it) the ids of a message's first span."""
        if self._request and not is_new:
            return self._request.fixed(), None
        if self._joins:
            return self._joins, None
        first = self._recorder.root_of(message_id)
        if self._request and self._request.context is None:
            self._request.begin_trace_of(first)
            return first, None
        return (None, first) if is_new else (first, None)
