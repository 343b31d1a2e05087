"""A receiver of traces on a real socket: OTLP over HTTP, protobuf, as a collector takes them.

with TraceReceiver() as receiver:
    ...                       # OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url
    receiver.spans            # all that came, in order of their beginning
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitoring import tracing


@dataclass(frozen=True, slots=True)
class Seen:
    trace_id: str
    span_id: str
    parent_id: str
    name: str
    began_ns: int
    ended_ns: int
    is_failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[str] = field(default_factory=list)

    @property
    def role(self) -> str:
        return str(self.resource["clawdbot.role"])


class TraceReceiver:
    """``statuses`` are given to the next calls, 200 to those after them."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self._seen: list[Seen] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[Seen]:
        return sorted(self._seen, key=lambda span: span.began_ns)

    def config(self, **changed: Any) -> dict[str, Any]:
        """``settings.TRACES`` for this receiver."""
        usual = {
            "sampler": "parentbased_always_on",
            "ratio": 1.0,
            "version": "1.2",
            "ca_file": "",
            "secret_headers": {},
        }
        return {**usual, "endpoint": f"{self.url}/v1/traces", **changed}

    def of_trace(self, trace_id: str) -> list[Seen]:
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        self.calls.append((path, headers, body))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self._seen += _read(ExportTraceServiceRequest.FromString(body))
        return status

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def reachable(settings: Any) -> Iterator[TraceReceiver]:
    """One that this process may call, and whose traces end before it does."""
    with TraceReceiver() as receiver:
        address = receiver.url.removeprefix("http://")
        settings.OUTBOUND_TRUSTED_ORIGINS = [*settings.OUTBOUND_TRUSTED_ORIGINS, address]
        yield receiver
        tracing.end()


def tree(spans: Sequence[Seen]) -> dict[str, list[str]]:
    """Names of spans below each name; those whose parent is not among them stand below an empty one."""
    names = {span.span_id: span.name for span in spans}
    found: dict[str, list[str]] = {}
    for span in spans:
        found.setdefault(names.get(span.parent_id, ""), []).append(span.name)
    return found


def _handler_of(receiver: TraceReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver.take(self.path, dict(self.headers), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def _read(request: ExportTraceServiceRequest) -> list[Seen]:
    return [
        Seen(
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.name,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.status.code == 2,
            _values(span.attributes),
            _values(part.resource.attributes),
            [event.name for event in span.events],
        )
        for part in request.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
