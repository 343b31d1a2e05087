"""The real stack: request context and metrics around Django's own ASGI handler."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import Group
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from prometheus_client import REGISTRY
from rest_framework.authentication import BasicAuthentication

from monitoring.context import RequestContext
from monitoring.metrics import HttpMetrics
from monitoring.models import AuditLog
from tests.monitoring.audited_site import GroupViewSet


async def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[bytes, bytes]]:
    given = {"host": "testserver", "content-type": "application/json", "content-length": str(len(body)), **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "client": ("203.0.113.9", 1),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    caller = ApplicationCommunicator(RequestContext(HttpMetrics(ASGIHandler())), scope)
    await caller.send_input({"type": "http.request", "body": body})
    start: dict[str, Any] = await caller.receive_output(5)
    while (await caller.receive_output(5)).get("more_body"):
        pass
    await caller.wait()
    return start["status"], dict(start["headers"])


async def test_a_request_has_its_id_and_its_route_when_django_answers():
    labels = {"route": "livez", "method": "GET", "status": "200"}
    before = REGISTRY.get_sample_value("clawdbot_http_requests_total", labels) or 0

    status, headers = await ask("GET", "/livez", b"", **{"x-request-id": "request-1"})

    assert (status, headers[b"x-request-id"]) == (200, b"request-1")
    assert REGISTRY.get_sample_value("clawdbot_http_requests_total", labels) == before + 1


@pytest.mark.django_db(transaction=True)
async def test_the_actor_is_right_when_rest_signs_in_late(monkeypatch, django_user_model):
    monkeypatch.setattr(GroupViewSet, "authentication_classes", [BasicAuthentication])
    monkeypatch.setattr(GroupViewSet, "permission_classes", [])
    await sync_to_async(django_user_model.objects.create_user)("olga", "olga@example.com", "pass")
    basic = "Basic " + base64.b64encode(b"olga:pass").decode()

    status, headers = await ask("POST", "/api/v1/groups/", b'{"name": "auditors"}', authorization=basic)

    assert status == 201
    assert await sync_to_async(Group.objects.filter(name="auditors").count)() == 1
    entry = await sync_to_async(AuditLog.objects.get)(action="group.created")
    assert (entry.actor_kind, entry.actor_label, entry.address) == ("user", "olga", "203.0.113.9")
    assert entry.request_id.encode() == headers[b"x-request-id"]
    await sync_to_async(connections.close_all)()  # those of the worker thread
