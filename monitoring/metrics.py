"""Every Prometheus collector of ClawdBot, units in the names, and small functions that observe.

Labels are few and bounded: platforms, bot slugs, model names, routes; never a person, a path or a key. What only the
apps above can tell (queue ages, quotas) they register with ``register_gauge``; it is asked for at each scrape.

With PROMETHEUS_MULTIPROC_DIR (empty at start, set before the first import) one process answers for all.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from monitoring import tracing
from monitoring.context import ASGIApp, Receive, Send

logger = logging.getLogger(__name__)

GaugeValues = float | Mapping[Any, float] | None
QUICK_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_TOKEN_S: Final = (0.05, 0.1, 0.15, 0.2, *SLOW_S[2:])  # with the bound that is promised for a GPU
# What the apps above report: name -> (help, labels).
GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "clawdbot_queue_oldest_seconds": ("Age of the oldest waiting message.", ("queue",)),
    "clawdbot_queue_depth": ("Messages that wait.", ("queue",)),
    "clawdbot_platform_quota_used": ("Calls of the current quota period.", ("platform", "credential")),
    "clawdbot_dead_letters": ("Messages given up, waiting for a person.", ()),
    "clawdbot_audit_unsealed": ("Audit entries not sealed yet.", ()),
    "clawdbot_key_age_days": ("Age of the oldest key or secret in use.", ("kind",)),
    "clawdbot_secret_days_left": ("Days until the first secret is to be replaced; below 0: since.", ("kind",)),
    "clawdbot_audit_oldest_unsealed_seconds": ("Age of the oldest audit entry that is not sealed yet.", ()),
    "clawdbot_platform_quota_ratio": ("Used share of the fullest monthly quota.", ("platform", "credential")),
    "clawdbot_workers": ("Living workers that listen to a queue in use.", ("queue",)),
    "clawdbot_scheduler_silent_seconds": ("Since the scheduler last had a worker sweep.", ()),
    "clawdbot_database_up": ("1: the database answers.", ()),
    "clawdbot_redis_up": ("1: Redis answers.", ()),
    "clawdbot_clock_skew_seconds": ("How far another clock is ahead of this machine's.", ("clock",)),
    "clawdbot_machine_cpu_ratio": ("Busy share of all processors, 0 to 1.", ()),
    "clawdbot_machine_memory_ratio": ("Used share of the memory, 0 to 1.", ()),
    "clawdbot_disk_free_ratio": ("Free share of the disk below a folder, 0 to 1.", ("path",)),
    "clawdbot_alerts_open": ("Open alerts.", ("severity",)),
    "clawdbot_certificate_days_left": ("Days until the certificate of the public address ends.", ()),
    "clawdbot_inference_running": ("Answers that a model writes in this process.", ("model",)),
    "clawdbot_inference_waiting": ("Requests that wait in a model's engine in this process.", ("model",)),
    "clawdbot_model_up": ("1: the model's last check was good; 0: it was not, or is too old.", ("model",)),
    "clawdbot_model_on_gpu": ("1: a worker holds this model on a GPU.", ("model",)),
    "clawdbot_gpu_utilization_ratio": ("Busy share of the GPU, 0 to 1.", ("gpu",)),
    "clawdbot_gpu_memory_bytes": ("GPU memory in use.", ("gpu",)),
}
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the client has no types  # halves the number of series

WEBHOOK_SECONDS = Histogram("clawdbot_webhook_seconds", "Callback to answer.", ("platform", "outcome"), buckets=QUICK_S)
HTTP_REQUESTS = Counter("clawdbot_http_requests_total", "Answered requests.", ("route", "method", "status"))
HTTP_SECONDS = Histogram("clawdbot_http_request_seconds", "Request to end of answer.", ("route",), buckets=SLOW_S)
MESSAGES = Counter("clawdbot_messages_total", "Settled messages.", ("platform", "bot", "outcome"))
STAGE_SECONDS = Histogram("clawdbot_stage_seconds", "Time in a stage of a message.", ("stage",), buckets=SLOW_S)
FIRST_TOKEN_SECONDS = Histogram(
    "clawdbot_inference_first_token_seconds", "Request to first token.", ("model",), buckets=FIRST_TOKEN_S
)
TOKENS = Counter("clawdbot_inference_tokens_total", "Tokens read (prompt) and written (completion).", ("model", "kind"))
BATCH_SIZE = Histogram(
    "clawdbot_inference_batch_size",
    "Requests computed together, looked at each second.",
    ("model",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
FALLBACKS = Counter("clawdbot_inference_fallbacks_total", "Answers left to another model.", ("model",))
LOG_LINES_DROPPED = Counter("clawdbot_log_lines_dropped_total", "Log lines that the central receiver never got.")
SPANS_DROPPED = Counter("clawdbot_trace_spans_dropped_total", "Spans of traces that their receiver never got.")
PLATFORM_CALLS = Counter("clawdbot_platform_calls_total", "Calls to a platform.", ("platform", "call", "outcome"))


def webhook(platform: str, outcome: str, duration_s: float) -> None:
    WEBHOOK_SECONDS.labels(platform, outcome).observe(duration_s)


def message(platform: str, bot: str, outcome: str) -> None:
    MESSAGES.labels(platform, bot, outcome).inc()


def stage(name: str, duration_s: float) -> None:
    """``name`` is one of queue, first_token, generate, deliver, total."""
    STAGE_SECONDS.labels(name).observe(duration_s)


def inference(
    model: str, *, first_token_s: float | None = None, prompt_tokens: int = 0, completion_tokens: int = 0
) -> None:
    if first_token_s is not None:
        FIRST_TOKEN_SECONDS.labels(model).observe(first_token_s)
    TOKENS.labels(model, "prompt").inc(prompt_tokens)
    TOKENS.labels(model, "completion").inc(completion_tokens)


def batch(model: str, size: int) -> None:
    BATCH_SIZE.labels(model).observe(size)


def fallback(model: str) -> None:
    """``model`` is the one that failed."""
    FALLBACKS.labels(model).inc()


def platform_call(platform: str, call: str, outcome: str) -> None:
    PLATFORM_CALLS.labels(platform, call, outcome).inc()


def log_lines_dropped(number: int) -> None:
    LOG_LINES_DROPPED.inc(number)


def spans_dropped(number: int) -> None:
    SPANS_DROPPED.inc(number)


def http_request(route: str, method: str, status: int, duration_s: float) -> None:
    HTTP_REQUESTS.labels(route, _method(method), str(status)).inc()
    HTTP_SECONDS.labels(route).observe(duration_s)


def _method(method: str) -> str:
    return method if method in METHODS else OTHER


# -- what is asked for at each scrape --


class _Registered(Collector):
    """Asks the registered callbacks. One that fails is logged and missing from the answer; the others stay."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[], GaugeValues]] = {}

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, callback in list(self.callbacks.items()):
            if family := _ask(name, callback):
                yield family


_registered: Final = _Registered()
prometheus_client.REGISTRY.register(_registered)


def register_gauge(name: str, callback: Callable[[], GaugeValues]) -> None:
    """Report ``callback()`` as the gauge ``name`` of GAUGES: a number, or numbers by label value (or tuple of them).

    None leaves the gauge out. Called at each scrape, from any thread. Registering again replaces.
    """
    if name not in GAUGES:
        raise ValueError(f"{name} is not a gauge of monitoring.metrics.GAUGES.")
    _registered.callbacks[name] = callback


def asked(name: str) -> dict[str, float]:
    """What a gauge stands at now, by its label values with bars between; empty where nobody registered it."""
    callback = _registered.callbacks.get(name)
    family = _ask(name, callback) if callback else None
    if family is None:
        return {}
    return {"|".join(sample.labels.values()): float(sample.value) for sample in family.samples}


def _ask(name: str, callback: Callable[[], GaugeValues]) -> GaugeMetricFamily | None:
    try:
        values = callback()
    except Exception:  # one broken callback must not hide the other series
        logger.exception("gauge failed", extra={"gauge": name})
        return None
    return None if values is None else _family(name, values)


def _family(name: str, values: float | Mapping[Any, float]) -> GaugeMetricFamily:
    text, labels = GAUGES[name]
    family = GaugeMetricFamily(name, text, labels=labels)
    by_labels = values.items() if isinstance(values, Mapping) else [((), values)]
    for key, value in by_labels:
        family.add_metric([key] if isinstance(key, str) else list(map(str, key)), float(value))
    return family


def registry() -> CollectorRegistry:
    """What /metrics shows: this process, or in multiprocess mode the sums over all of them and this one's CPU."""
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return prometheus_client.REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # the client has no types
    shared.register(_registered)
    prometheus_client.ProcessCollector(registry=shared)
    prometheus_client.PlatformCollector(registry=shared)
    return shared


# -- requests --

ROUTE_KEY: Final = "clawdbot.route"
# Doors that Django's resolver does not see. The key in the path is a secret: the label has the pattern.
MOUNTED: Final[Mapping[str, str]] = {
    "/webhooks/feishu/": "webhooks/feishu/<key>",
    "/webhooks/dingtalk/": "webhooks/dingtalk/<key>",
}


class HttpMetrics:
    """ASGI: counts, times and traces requests by route name. Django's own is written by monitoring.middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        status, started = 500, time.perf_counter()  # an application that fails before its answer counts as 500

        async def send_and_note(event: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = event["status"] if event["type"] == "http.response.start" else status
            await send(event)

        routes: list[str] = []  # survives the copies of the scope that routers make
        traced = tracing.request(scope)
        try:
            return await self.app({**scope, ROUTE_KEY: routes}, receive, send_and_note)
        finally:
            route = _route(scope["path"], routes)
            http_request(route, scope["method"], status, time.perf_counter() - started)
            if traced:
                traced.end(route, _method(scope["method"]), status)


def name_route(scope: Mapping[str, Any], route: str) -> None:
    """Tell HttpMetrics which pattern took the request."""
    routes = scope.get(ROUTE_KEY)
    if isinstance(routes, list):
        routes.append(route)


def _route(path: str, routes: list[str]) -> str:
    if routes:
        return routes[-1] or "/"
    return next((route for prefix, route in MOUNTED.items() if path.startswith(prefix)), OTHER)
