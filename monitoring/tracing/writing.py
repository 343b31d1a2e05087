"""What goes into spans and how it is written: public names, resource, sampler, W3C's headers."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from monitoring.redaction import redact
from monitoring.tracing import Value

Values = Mapping[str, Value]
# OpenTelemetry's own names, which receivers know; everything else is ``clawdbot.…``.
NAMES: Final = {
    "method": "http.request.method",
    "route": "http.route",
    "http_status": "http.response.status_code",
    "model": "gen_ai.request.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
}
_W3C: Final = TraceContextTextMapPropagator()


def sampler(config: dict[str, Any]) -> sampling.Sampler:
    by_ratio = sampling.TraceIdRatioBased(config["ratio"])
    return {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": by_ratio,
        "parentbased_always_on": sampling.DEFAULT_ON,
        "parentbased_always_off": sampling.DEFAULT_OFF,
        "parentbased_traceidratio": sampling.ParentBased(by_ratio),
    }[config["sampler"]]


def attributes(values: Values) -> dict[str, Value]:
    """Under their public names, with a net below the rule that no secret comes here in the first place."""
    named = {NAMES.get(name, f"clawdbot.{name}"): value for name, value in values.items()}
    return {name: _redacted(value) if isinstance(value, str) else value for name, value in named.items()}


@lru_cache(maxsize=4096)
def _redacted(text: str) -> str:
    """The spans of a message say the same again and again."""
    return redact(text)


def header(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parsed(headers: Mapping[str, str]) -> SpanContext | None:
    if not headers.get("traceparent"):
        return None
    found = get_current_span(_W3C.extract(headers, Context())).get_span_context()
    return found if found.is_valid else None


def w3c_headers(scope: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope.get("headers", ())
        if name in (b"traceparent", b"tracestate")
    }


def resource(role: str, version: str) -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    own = {
        "service.name": "clawdbot",
        "service.version": version,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "clawdbot.role": role,
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())
