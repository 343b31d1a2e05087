"""OpenTelemetry's own variables -> where traces go, and which. Those not named here its SDK reads by itself."""

from __future__ import annotations

import ssl
import tomllib
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from clawdbot_site.settings.env import BASE_DIR, base_url, env

SAMPLERS = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


def config() -> dict[str, Any]:
    """Empty without a receiver. A wrong value stops the start."""
    base = base_url("OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = base_url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (f"{base}/v1/traces" if base else "")
    if not endpoint or env("OTEL_SDK_DISABLED"):
        return {}
    return {
        "endpoint": endpoint,
        "secret_headers": headers(str(env("OTEL_EXPORTER_OTLP_HEADERS"))),
        "ca_file": ca_file(str(env("OTEL_EXPORTER_OTLP_CERTIFICATE"))),
        "sampler": sampler(str(env("OTEL_TRACES_SAMPLER"))),
        "ratio": ratio(str(env("OTEL_TRACES_SAMPLER_ARG"))),
        "version": version(),
    }


def headers(text: str) -> dict[str, str]:
    """``name=value,name=value``; what is special in a value is written with percent signs."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if any(not (name.strip() and sign) for name, sign, _value in pairs):
        raise ImproperlyConfigured("OTEL_EXPORTER_OTLP_HEADERS: write it like authorization=Bearer%20…,x-team=chat")
    return {name.strip(): unquote(value.strip()) for name, _sign, value in pairs}


def ca_file(path: str) -> str:
    try:
        if path:
            ssl.create_default_context(cafile=path)
    except OSError:
        text = f"OTEL_EXPORTER_OTLP_CERTIFICATE: {path} holds no certificate that can be read."
        raise ImproperlyConfigured(text) from None
    return path


def sampler(name: str) -> str:
    if name.strip().lower() not in SAMPLERS:
        raise ImproperlyConfigured(f"OTEL_TRACES_SAMPLER={name} is not known. Use one of: {', '.join(SAMPLERS)}.")
    return name.strip().lower()


def ratio(text: str) -> float:
    try:
        share = float(text or 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ImproperlyConfigured(f"OTEL_TRACES_SAMPLER_ARG: a share from 0 to 1, like 0.1, not {text!r}.")
    return share


def page() -> str:
    """The address of a trace's page, ``{trace_id}`` in it."""
    url = str(env("TRACE_URL"))
    if url and (urlsplit(url).scheme not in ("http", "https") or "{trace_id}" not in url):
        raise ImproperlyConfigured("TRACE_URL: write it like https://jaeger.example.com/trace/{trace_id}")
    return url


def version() -> str:
    with (BASE_DIR / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
