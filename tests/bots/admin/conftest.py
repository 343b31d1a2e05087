from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bots import doorbell
from clawdbot_site.security import roles


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No broker here: what would have been rung."""
    heard: list[Any] = []
    monkeypatch.setattr(doorbell, "ring", lambda conversation_id, queue, **more: heard.append(conversation_id))
    return heard


@pytest.fixture
def browser(db: None) -> Client:
    """A superuser's browser."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    return client


@pytest.fixture
def browser_of(db: None) -> Callable[..., Client]:
    """A browser of somebody of the staff with these roles."""

    def make(*names: str, is_staff: bool = True) -> Client:
        roles.ensure_groups()
        user = get_user_model().objects.create_user(f"staff-{'-'.join(names)}", password="x", is_staff=is_staff)
        user.groups.set(Group.objects.filter(name__in=names))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def queries(browser: Client) -> Callable[[str], int]:
    """How many queries a page takes, once what is kept in memory has been read."""

    def count(page: str) -> int:
        browser.get(page)
        with CaptureQueriesContext(connection) as captured:
            response = browser.get(page)
        assert response.status_code == 200
        return len(captured)

    return count
