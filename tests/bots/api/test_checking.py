"""``credentials/<id>/check/``: what a program is told of an app's connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from bots import checking
from integrations import breaker, credential_check, pacing
from integrations.models import PlatformCredential
from monitoring.models import AuditLog
from tests import factories
from tests.integrations.feishu.fake_feishu import FakeFeishu

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_traffic() -> None:
    pacing.buckets.cache_clear()
    breaker.forget()


@pytest.fixture
def feishu(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFeishu]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    monkeypatch.setattr(credential_check, "_sources", [])
    with FakeFeishu() as fake:
        yield fake


def app_of(feishu: FakeFeishu, secret: str) -> PlatformCredential:
    return factories.credential(app_id=feishu.app_id, app_secret=secret, base_url=feishu.url)


def test_check_tells_what_is_wrong_and_what_to_do(rest: APIClient, feishu: FakeFeishu) -> None:
    app = app_of(feishu, "the-wrong-secret")

    response = rest.post(f"/api/v1/credentials/{app.pk}/check/")

    assert response.status_code == 200
    assert response.json() == {
        "ok": False,
        "findings": [
            {
                "level": "failed",
                "what": "Feishu, access token: wrong App Secret: copy it again from Feishu's console "
                "(code 10015, app secret invalid)",
                "fix": "Copy App ID and App Secret again from Credentials & Basic Info (凭证与基础信息).",
                "link": "",
            }
        ],
    }
    entry = AuditLog.objects.get(action="credential.checked")
    assert (entry.target_id, entry.changes) == (str(app.pk), {"failed": 1})


def test_findings_of_the_bot_are_among_them(rest: APIClient, feishu: FakeFeishu) -> None:
    checking.register()
    checking.register()  # as when a process starts twice

    found = rest.post(f"/api/v1/credentials/{app_of(feishu, 'x').pk}/check/").json()["findings"]

    assert [one["what"] for one in found if "joined" in one["what"]] == ["No bot is joined to this app."]


def test_check_needs_the_scope_to_write(client_with: Callable[..., APIClient], feishu: FakeFeishu) -> None:
    path = f"/api/v1/credentials/{app_of(feishu, 'x').pk}/check/"

    assert client_with("bots:read", "messages:read", "messages:write", "chat", "admin").post(path).status_code == 403
    assert client_with("bots:write", name="writer").get(path).status_code == 405
    assert feishu.calls == []
    assert client_with("bots:write", name="checker").post(path).status_code == 200


def test_findings_of_the_bots_are_part_of_every_check(rest: APIClient, settings: Any) -> None:
    """Registered by the app itself: nothing is joined to this credential, and only the bots know it."""
    settings.OUTBOUND_ALLOWED_NETWORKS = []
    app = factories.credential(base_url="https://unreachable.invalid")

    findings = rest.post(f"/api/v1/credentials/{app.pk}/check/").json()["findings"]

    assert "No bot is joined to this app." in [finding["what"] for finding in findings]
