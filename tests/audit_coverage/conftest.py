"""Who changes things, with nothing outside that could answer."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from rest_framework.test import APIClient

from bots import doorbell
from clawdbot_site.security.models import ApiClient
from clawdbot_site.security.models.clients import ALL_SCOPES
from integrations import credential_check
from monitoring import audit
from monitoring.models import AuditLog

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def quiet(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker, no platform, no static files; and nothing was counted before."""
    settings.WHITENOISE_AUTOREFRESH = True
    monkeypatch.setattr(doorbell, "ring", lambda *args, **more: None)
    monkeypatch.setattr(credential_check, "findings", lambda credential: [], raising=False)
    audit.READS.clear()
    audit.REFUSALS.clear()


@pytest.fixture
def key(db: None) -> str:
    return str(ApiClient.objects.create_key(name="integrator", scopes=list(ALL_SCOPES))[1])


@pytest.fixture
def rest(key: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client


@pytest.fixture
def root(db: None) -> Any:
    return get_user_model().objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def browser(root: Any) -> Client:
    client = Client()
    client.force_login(root)
    return client


def actions() -> list[str]:
    return list(AuditLog.objects.order_by("id").values_list("action", flat=True))
