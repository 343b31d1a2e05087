from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest

from monitoring import metrics
from tests import logged

CONTRACT = {
    "clawdbot_webhook_seconds": ("platform", "outcome"),
    "clawdbot_http_requests": ("route", "method", "status"),
    "clawdbot_http_request_seconds": ("route",),
    "clawdbot_messages": ("platform", "bot", "outcome"),
    "clawdbot_stage_seconds": ("stage",),
    "clawdbot_inference_first_token_seconds": ("model",),
    "clawdbot_inference_tokens": ("model", "kind"),
    "clawdbot_inference_batch_size": ("model",),
    "clawdbot_platform_calls": ("platform", "call", "outcome"),
    "clawdbot_log_lines_dropped": (),
}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def http(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "path": path, "method": method}


async def ask(scope: dict[str, Any], status: int | None = 200, route: str | None = None) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        copied = dict(scope)  # as Channels' routers do
        if route is not None:
            metrics.name_route(copied, route)
        if status is None:
            raise RuntimeError("broken")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        pass

    await metrics.HttpMetrics(application)(scope, None, send)


@pytest.mark.parametrize(("name", "labels"), CONTRACT.items())
def test_a_collector_has_the_promised_labels(name, labels):
    collectors = [one for one in vars(metrics).values() if getattr(one, "_name", None) == name]

    assert [one._labelnames for one in collectors] == [labels]


def test_what_is_observed_is_shown_when_scraped():
    metrics.webhook("feishu", "observed", 0.01)
    metrics.message("feishu", "observed", "delivered")
    metrics.stage("observed", 1.5)
    metrics.inference("observed", first_token_s=0.2, prompt_tokens=5, completion_tokens=7)
    metrics.batch("observed", 3)
    metrics.platform_call("feishu", "send", "observed")

    assert value("clawdbot_webhook_seconds_count", platform="feishu", outcome="observed") == 1
    assert value("clawdbot_messages_total", platform="feishu", bot="observed", outcome="delivered") == 1
    assert value("clawdbot_stage_seconds_sum", stage="observed") == 1.5
    assert value("clawdbot_inference_first_token_seconds_count", model="observed") == 1
    assert value("clawdbot_inference_tokens_total", model="observed", kind="completion") == 7
    assert value("clawdbot_inference_batch_size_sum", model="observed") == 3
    assert value("clawdbot_platform_calls_total", platform="feishu", call="send", outcome="observed") == 1
    assert value("process_cpu_seconds_total") > 0
    assert value("process_resident_memory_bytes") > 0


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    callbacks: dict[str, Any] = {}
    monkeypatch.setattr(metrics._registered, "callbacks", callbacks)
    return callbacks


def test_gauges_are_asked_at_each_scrape_when_registered(gauges):
    depth = {"inference": 3.0}
    metrics.register_gauge("clawdbot_queue_depth", lambda: depth)
    metrics.register_gauge("clawdbot_dead_letters", lambda: 2)
    metrics.register_gauge("clawdbot_platform_quota_used", lambda: {("feishu", "main"): 10})

    assert value("clawdbot_queue_depth", queue="inference") == 3
    depth["inference"] = 4
    assert value("clawdbot_queue_depth", queue="inference") == 4
    assert value("clawdbot_dead_letters") == 2
    assert value("clawdbot_platform_quota_used", platform="feishu", credential="main") == 10


def test_other_series_stay_when_a_gauge_breaks_or_has_nothing(gauges, caplog):
    metrics.register_gauge("clawdbot_queue_depth", lambda: 1 // 0)
    metrics.register_gauge("clawdbot_audit_unsealed", lambda: None)
    metrics.register_gauge("clawdbot_dead_letters", lambda: 2)

    text = generate_latest(REGISTRY).decode()

    assert "clawdbot_queue_depth" not in text
    assert "clawdbot_audit_unsealed" not in text
    assert "clawdbot_dead_letters 2.0" in text
    assert [record.message for record in logged.by(caplog, "monitoring.metrics")] == ["gauge failed"]


def test_a_gauge_is_refused_when_the_contract_does_not_name_it(gauges):
    with pytest.raises(ValueError):
        metrics.register_gauge("clawdbot_surprise", lambda: 1)


@pytest.mark.parametrize(
    ("path", "named", "route"),
    [
        ("/api/v1/bots/x/", "api/v1/bots/<slug>/", "api/v1/bots/<slug>/"),
        ("/webhooks/feishu/secret-key/", None, "webhooks/feishu/<key>"),
        ("/webhooks/dingtalk/secret-key", "", "/"),
        ("/webhooks/icq/secret-key", None, "other"),
        ("/wp-login.php", None, "other"),
    ],
)
async def test_requests_are_counted_by_route_when_answered(path, named, route):
    before = value("clawdbot_http_requests_total", route=route, method="GET", status="200")

    await ask(http(path), route=named)

    assert value("clawdbot_http_requests_total", route=route, method="GET", status="200") == before + 1
    assert "secret-key" not in generate_latest(REGISTRY).decode()


async def test_a_request_counts_as_500_when_the_application_breaks():
    before = value("clawdbot_http_requests_total", route="other", method="other", status="500")

    with pytest.raises(RuntimeError):
        await ask(http("/x", "BREW"), status=None)

    assert value("clawdbot_http_requests_total", route="other", method="other", status="500") == before + 1


async def test_nothing_is_counted_when_it_is_a_websocket():
    before = generate_latest(REGISTRY).decode().count("clawdbot_http_requests_total{")

    await ask({"type": "websocket", "path": "/ws/chat/demo/"})

    assert generate_latest(REGISTRY).decode().count("clawdbot_http_requests_total{") == before


def test_one_process_answers_for_all_when_they_share_a_directory(tmp_path: Path):
    program = """
import sys
import django
from django.conf import settings
settings.configure()
from prometheus_client import generate_latest
from monitoring import metrics
if sys.argv[1] == "count":
    metrics.message("feishu", "demo", "delivered")
else:
    metrics.register_gauge("clawdbot_dead_letters", lambda: 1)
    print(generate_latest(metrics.registry()).decode())
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for word in ("count", "count"):
        subprocess.run([sys.executable, "-c", program, word], env=environment, check=True)
    shown = subprocess.run([sys.executable, "-c", program, "show"], env=environment, check=True, capture_output=True)

    lines = shown.stdout.decode().splitlines()
    assert 'clawdbot_messages_total{bot="demo",outcome="delivered",platform="feishu"} 2.0' in lines
    assert "clawdbot_dead_letters 1.0" in lines
    assert any(line.startswith("process_cpu_seconds_total") for line in lines)


def test_labels_do_not_mix_when_requests_run_together():
    async def together() -> None:
        await asyncio.gather(*(ask(http(f"/{n}"), route=f"route-{n % 2}") for n in range(10)))

    asyncio.run(together())

    assert value("clawdbot_http_requests_total", route="route-0", method="GET", status="200") == 5
    assert value("clawdbot_http_requests_total", route="route-1", method="GET", status="200") == 5
