"""Alerts of the product: what waits, what failed, models, workers, long connections, platforms' clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bots import gauges, heartbeats
from bots.doctor import services
from bots.models import Endpoint, LongConnection
from clawdbot_site.security.outbound import guarded_client
from inference import health, reporting
from inference.models import LanguageModel
from monitoring.alerting import ground
from monitoring.alerting.rules import Breach, Look, Rule, register

CRITICAL: Final = "critical"
CLOCKS_EVERY_S: Final = 30.0
PROBE_TIMEOUT: Final = httpx.Timeout(4.0, connect=2.0)
BROKEN: Final = (500, 502, 503, 504)  # not 501: some services know no such address
FEWEST_ANSWERS: Final = 5
AT_ONCE: Final = 8


def register_all() -> None:
    away = ("database.down", "redis.down")
    register(
        Rule("queue.age", gettext_lazy("A message waits for long"), "messages", waiting, 60, "s", 15),
        Rule("dead_letters", gettext_lazy("Messages failed and wait for a person"), "messages", dead_letters, 5),
        Rule(
            "model.down", gettext_lazy("A model does not answer"), "models", silent_models, for_s=10, severity=CRITICAL
        ),
        Rule(
            "inference.first_token",
            gettext_lazy("A GPU answers late (95th percentile)"),
            "models",
            late_tokens,
            200,
            "ms",
            60,
        ),
        Rule(
            "worker.gone",
            gettext_lazy("No worker for a queue"),
            "processes",
            missing_workers,
            for_s=15,
            severity=CRITICAL,
        ),
        Rule(
            "scheduler.gone",
            gettext_lazy("The scheduler is away"),
            "processes",
            missing_scheduler,
            40,
            "s",
            15,
            CRITICAL,
            quiet_under=away,
        ),
        Rule(
            "listener.gone", gettext_lazy("Nobody holds a long connection"), "platforms", lost_connections, 60, "s", 15
        ),
        Rule(
            "platform.clock",
            gettext_lazy("This machine's clock and a platform's disagree"),
            "machine",
            platform_clocks,
            30,
            "s",
        ),
    )


# -- messages --


def waiting(look: Look) -> Iterator[Breach]:
    for queue, age_s in gauges.queue_oldest_s().items():
        if age_s > look.threshold:
            text = _("In the queue %(queue)s a message has waited for %(seconds)d s.")
            yield Breach(queue, text % {"queue": queue, "seconds": age_s}, age_s)


def dead_letters(look: Look) -> Iterator[Breach]:
    count = gauges.dead_letters()
    if count > look.threshold:
        yield Breach("", _("%(count)d messages failed or are unconfirmed.") % {"count": count}, count)


# -- models --


def silent_models(look: Look) -> Iterator[Breach]:
    """By the last check, which asks the model something; and by whether its service can be reached at all, now."""
    used = list(health.in_use().order_by("name"))
    silent = _unreachable([model for model in used if model.engine == LanguageModel.Engine.OPENAI])
    for model in used:
        failing = model.status == LanguageModel.Status.FAILING and model.is_check_fresh
        if reason := silent.get(model.name) or (model.status_detail if failing else ""):
            text = _("The model %(name)s does not answer: %(reason)s") % {"name": model.name, "reason": reason}
            yield Breach(model.name, text)


def _unreachable(models: list[LanguageModel]) -> dict[str, str]:
    """Name -> reason. A service that answers anything else is there: not all know this address."""
    if not models:
        return {}
    with guarded_client(timeout=PROBE_TIMEOUT) as client, ThreadPoolExecutor(AT_ONCE) as pool:
        asked = pool.map(lambda model: _probe(client, model.base_url), models)
        return {model.name: reason for model, reason in zip(models, asked, strict=True) if reason}


def _probe(client: httpx.Client, base_url: str) -> str:
    try:
        status = client.get(f"{base_url.rstrip('/')}/models").status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    return f"HTTP {status}" if status in BROKEN else ""


def late_tokens(look: Look) -> Iterator[Breach]:
    for name in reporting.models_on_gpu():
        seconds = look.history.quantile(f"first_token|{name}", 0.95, 5)
        if seconds is None or look.history.sum(f"first_token|{name}|count", 5) < FEWEST_ANSWERS:
            continue
        if seconds * 1000 > look.threshold:
            text = _("The model %(name)s begins to answer after %(ms)d ms.") % {"name": name, "ms": seconds * 1000}
            yield Breach(name, text, seconds * 1000)


# -- processes --


def missing_workers(look: Look) -> Iterator[Breach]:
    for queue, count in heartbeats.workers().items():
        if not count:
            yield Breach(queue, _("No worker listens to the queue %(queue)s.") % {"queue": queue})


def missing_scheduler(look: Look) -> Iterator[Breach]:
    silent_s = heartbeats.scheduler_silent_s()
    if silent_s is not None and silent_s > look.threshold:
        yield Breach("", _("The scheduler does not work: nothing is swept, rotated or tidied."), silent_s)


def lost_connections(look: Look) -> Iterator[Breach]:
    rows = (
        Endpoint.objects.live().filter(mode=Endpoint.Mode.STREAM).select_related("long_connection", "bot", "credential")
    )
    for endpoint in rows:
        row: LongConnection | None = getattr(endpoint, "long_connection", None)
        state = row.current_state if row else LongConnection.State.IDLE
        if state != LongConnection.State.CONNECTED:
            text = _("The long connection of %(endpoint)s: %(state)s.")
            yield Breach(str(endpoint), text % {"endpoint": endpoint, "state": state.label})


# -- clocks --


class _Clocks:
    """The platforms' answers of the last look: they are asked less often than the rules are."""

    def __init__(self) -> None:
        self._asked_at, self._skews = float("-inf"), dict[str, float]()

    def skews(self) -> dict[str, float]:
        if time.monotonic() - self._asked_at > CLOCKS_EVERY_S:
            self._asked_at, self._skews = time.monotonic(), services.platform_skews()
        return self._skews


_clocks: Final = _Clocks()


def platform_clocks(look: Look) -> Iterator[Breach]:
    for host, skew_s in _clocks.skews().items():
        if abs(skew_s) > look.threshold:
            yield ground.skewed(host, skew_s)
