"""The counters of this process as flat sums. Routes become classes, statuses their first digit: keys stay few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client.metrics import MetricWrapperBase

from monitoring import metrics

CLASSES: Final = (("webhooks/", "webhooks"), ("api/", "api"), ("v1/", "api"), ("admin/", "admin"))
PROBES: Final = ("livez", "readyz", "metrics")


def key(*parts: object) -> str:
    return "|".join(str(part).replace("|", "/") for part in parts)


def route_class(route: str) -> str:
    """webhooks, api, admin, probes or other."""
    if route in PROBES:
        return "probes"
    return next((name for prefix, name in CLASSES if route.startswith(prefix)), metrics.OTHER)


def totals() -> dict[str, float]:
    """Running totals since this process began."""
    found: dict[str, float] = defaultdict(float)
    for name, amount in _counted():
        found[name] += amount
    return dict(found)


def _counted() -> Iterator[tuple[str, float]]:
    yield from _requests()
    for labels, suffix, value in _samples(metrics.WEBHOOK_SECONDS):
        yield from _histogram("webhook", labels, suffix, value)
    for labels, suffix, value in _samples(metrics.MESSAGES):
        if suffix == "_total":
            yield key("messages", labels["outcome"]), value
    for labels, suffix, value in _samples(metrics.STAGE_SECONDS):
        yield from _histogram(key("stage", labels["stage"]), labels, suffix, value)
    for labels, suffix, value in _samples(metrics.FIRST_TOKEN_SECONDS):
        yield from _histogram(key("first_token", labels["model"]), labels, suffix, value)
    yield from _inference()
    for labels, suffix, value in _samples(metrics.PLATFORM_CALLS):
        if suffix == "_total":
            yield key("calls", labels["platform"], labels["outcome"]), value


def _requests() -> Iterator[tuple[str, float]]:
    for labels, suffix, value in _samples(metrics.HTTP_REQUESTS):
        if suffix == "_total":
            yield key("http", route_class(labels["route"]), f"{labels['status'][:1]}xx"), value
    for labels, suffix, value in _samples(metrics.HTTP_SECONDS):
        if suffix != "_bucket":
            yield key("http_time", route_class(labels["route"]), suffix.strip("_")), value


def _inference() -> Iterator[tuple[str, float]]:
    for labels, suffix, value in _samples(metrics.TOKENS):
        if suffix == "_total":
            yield key("tokens", labels["kind"]), value
    for labels, suffix, value in _samples(metrics.BATCH_SIZE):
        if suffix != "_bucket":
            yield key("batch", labels["model"], suffix.strip("_")), value


def _histogram(name: str, labels: Mapping[str, str], suffix: str, value: float) -> Iterator[tuple[str, float]]:
    yield key(name, f"le={labels['le']}" if suffix == "_bucket" else suffix.strip("_")), value


def _samples(collector: MetricWrapperBase) -> Iterator[tuple[dict[str, str], str, float]]:
    """(labels, suffix of the name, value)."""
    for family in collector.collect():
        sample: Any
        for sample in family.samples:
            yield sample.labels, sample.name.removeprefix(family.name), sample.value
