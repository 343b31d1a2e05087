from __future__ import annotations

import http.client
from typing import Any

import pytest
from django.test import Client

from monitoring import health, metrics_server
from monitoring.models import AuditLog

TOKEN = "a token of the test site"


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    registered: dict[str, Any] = {}
    monkeypatch.setattr(health, "_probes", registered)
    return registered


def scrape(client: Client, peer: str = "127.0.0.1", **headers: str) -> int:
    answer = client.get("/metrics", headers=headers, REMOTE_ADDR=peer)
    assert ("clawdbot_" in answer.text) == (answer.status_code == 200)
    return answer.status_code


def test_metrics_are_shown_when_asked_from_an_allowed_network(client):
    assert scrape(client) == 200
    assert scrape(client, "::1") == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
@pytest.mark.parametrize("claimed", ["127.0.0.1", "203.0.113.9", "nonsense"])
def test_metrics_are_refused_when_an_untrusted_peer_forwards(client, db, name, claimed):
    assert scrape(client, "127.0.0.1", **{name: claimed}) == 403


def test_metrics_follow_the_resolved_address_when_a_trusted_proxy_forwards(client, db, settings):
    settings.TRUSTED_PROXIES = ["10.0.0.1"]
    settings.METRICS_ALLOWED_NETWORKS = ["192.0.2.0/24"]

    assert scrape(client, "10.0.0.1", **{"X-Forwarded-For": "192.0.2.7"}) == 200
    assert scrape(client, "10.0.0.1", **{"X-Forwarded-For": "192.0.2.7, 203.0.113.9"}) == 403
    assert scrape(client, "10.0.0.1") == 403


def test_metrics_are_refused_once_in_the_log_when_a_stranger_insists(client, db):
    assert [scrape(client, "203.0.113.9") for _ in range(3)] == [403, 403, 403]

    entry = AuditLog.objects.get()
    assert (entry.action, entry.outcome, entry.address) == ("metrics.refused", "refused", "203.0.113.9")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Basic {TOKEN}", 403),
        ("Bearer wrong", 403),
        ("Bearer ", 403),
        ("Bearer naïve-é", 403),
        ("", 403),
    ],
)
def test_metrics_want_the_token_when_asked_from_elsewhere(client, db, settings, given, status):
    settings.METRICS_TOKEN = TOKEN

    assert scrape(client, "203.0.113.9", Authorization=given) == status


@pytest.mark.parametrize("given", ["Bearer ", "Bearer", "Bearer None"])
def test_an_empty_token_opens_nothing_when_none_is_set(client, db, given):
    assert scrape(client, "203.0.113.9", Authorization=given) == 403


def test_openmetrics_is_answered_when_asked_for(client):
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_livez_asks_nothing_when_the_process_answers(client, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        answer = client.get("/livez", REMOTE_ADDR="203.0.113.9")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_readyz_names_its_checks_when_the_caller_may_read_metrics(client, db):
    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["checks"]["database"]["status"] == "ok"
    assert client.get("/readyz", REMOTE_ADDR="203.0.113.9").json() == {"status": "ok"}


def test_readyz_answers_503_when_a_critical_probe_fails(client, probes):
    def broken() -> str:
        raise ConnectionError("redis://:canary@host")

    health.register("database", broken)

    near, far = client.get("/readyz"), client.get("/readyz", REMOTE_ADDR="203.0.113.9")

    assert (near.status_code, far.status_code) == (503, 503)
    assert far.json() == {"status": "unavailable"}
    assert near.json()["checks"]["database"] | {"duration_ms": 0} == {
        "status": "failed",
        "critical": True,
        "detail": "ConnectionError",
        "duration_ms": 0,
    }


def test_readyz_stays_ready_when_only_an_uncritical_probe_fails(client, probes):
    health.register("database", lambda: None)
    health.register("broker", lambda: 1 / 0, critical=False)

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["checks"]["broker"]["status"] == "failed"


def test_probes_run_once_a_second_when_asked_more_often(client, probes):
    asked: list[int] = []
    health.register("database", lambda: asked.append(1))

    for _ in range(5):
        client.get("/readyz")

    assert len(asked) == 1


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
def test_probes_take_no_posts_when_sent(client, path):
    assert client.post(path).status_code == 405


def test_the_broker_probe_fails_when_redis_is_gone(settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(Exception, match="refused"):
        health.broker()
    settings.REDIS_URL = ""
    assert health.broker() == "embedded"


def test_a_worker_serves_its_metrics_when_it_has_no_site(settings):
    server = metrics_server.serve(0)
    try:
        answers = {}
        for path in ("/metrics", "/other"):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
            connection.request("GET", path)
            answer = connection.getresponse()
            answers[path] = (answer.status, b"clawdbot_" in answer.read())
            connection.close()
    finally:
        server.shutdown()
        server.server_close()

    assert server.server_address[0] == "127.0.0.1"
    assert answers == {"/metrics": (200, True), "/other": (404, False)}


def test_a_worker_listens_everywhere_when_others_may_read(settings):
    settings.METRICS_ALLOWED_NETWORKS = ["10.0.0.0/8"]
    assert metrics_server._host() == "0.0.0.0"
    settings.METRICS_ALLOWED_NETWORKS = ["127.0.0.1"]
    assert metrics_server._host() == "127.0.0.1"
    settings.METRICS_TOKEN = TOKEN
    assert metrics_server._host() == "0.0.0.0"
