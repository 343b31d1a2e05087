from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
from rest_framework.test import APIClient

from monitoring import audit, health


@pytest.fixture(autouse=True)
def site_of_monitoring(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.monitoring.urls"
    settings.TRUSTED_PROXIES = []
    settings.METRICS_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
    settings.METRICS_TOKEN = ""


@pytest.fixture(autouse=True)
def nothing_counted_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    audit.REFUSALS.clear()
    audit.READS.clear()
    monkeypatch.setattr(health, "_last", (float("-inf"), []))


@pytest.fixture
def owner(no_groups: None) -> Any:
    return get_user_model().objects.create_superuser("olga", "olga@example.com", "a long password")


@pytest.fixture
def no_groups(db: None) -> None:
    """The site's roles are groups as well."""
    Group.objects.all().delete()


@pytest.fixture
def browser(owner: Any) -> Client:
    client = Client()
    client.force_login(owner)
    return client


@pytest.fixture
def rest(owner: Any) -> APIClient:
    client = APIClient()
    scopes: Any = SimpleNamespace(scopes=frozenset({"audit:read", "admin"}))
    client.force_authenticate(owner, token=scopes)
    return client
