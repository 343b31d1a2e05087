"""System checks: a wrong network or a guessable token fails at start, not at the first request."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from monitoring import receivers, sinks
from monitoring.client_ip import parse_network

SHORTEST_TOKEN = 16  # characters


@register
def check_networks(**kwargs: Any) -> list[CheckMessage]:
    names = ("TRUSTED_PROXIES", "METRICS_ALLOWED_NETWORKS")
    wrong = [(name, text) for name in names for text in getattr(settings, name, ()) if parse_network(text) is None]
    hint = "Write networks as 10.0.0.0/8 or fd00::/8, separated by commas."
    return [Error(f"{name}: {text!r} is not a network.", hint=hint, id="monitoring.E001") for name, text in wrong]


@register
def check_metrics_token(**kwargs: Any) -> list[CheckMessage]:
    token = getattr(settings, "METRICS_TOKEN", "")
    if not token or len(token) >= SHORTEST_TOKEN:
        return []
    hint = f"Use at least {SHORTEST_TOKEN} random characters, or leave it empty to allow by address only."
    return [Error("METRICS_TOKEN is too short to be a secret.", hint=hint, id="monitoring.E002")]


@register
def check_audit_sinks(**kwargs: Any) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for text in settings.AUDIT_SINKS:
        try:
            sinks.parse(text)
        except ValueError as error:
            errors.append(Error(f"AUDIT_SINKS: {error}", id="monitoring.E003"))
    return errors


@register
def check_audit_receivers(**kwargs: Any) -> list[CheckMessage]:
    errors: list[CheckMessage] = []
    for text in settings.AUDIT_FORWARD_TO:
        try:
            receivers.parse(text)
        except ValueError as error:
            errors.append(Error(f"AUDIT_FORWARD_TO: {error}", id="monitoring.E004"))
    return errors


@register
def check_trace_packages(**kwargs: Any) -> list[CheckMessage]:
    if not settings.TRACES:
        return []
    try:
        import_module("monitoring.tracing.recording")
    except ModuleNotFoundError as error:
        text = f"OTEL_EXPORTER_OTLP_ENDPOINT is set, and {error.name} is not installed."
        hint = "Install it: .venv/bin/pip install -r requirements/traces.txt. Or leave the setting out."
        return [Error(text, hint=hint, id="monitoring.E005")]
    return []
