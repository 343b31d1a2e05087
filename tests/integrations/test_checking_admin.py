"""The button on the credential's page: who may press it, what it shows, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from clawdbot_site.security import roles
from integrations import credential_check, quota
from integrations.checking import Finding
from integrations.models import PlatformCredential
from monitoring.models import AuditLog
from tests import factories
from tests.integrations.feishu.fake_feishu import FakeFeishu

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected


@pytest.fixture
def feishu(settings: Any) -> Iterator[FakeFeishu]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with FakeFeishu() as fake:
        yield fake


@pytest.fixture
def app(feishu: FakeFeishu) -> PlatformCredential:
    """An app whose secret is not the platform's: no call of it counts for a quota."""
    return factories.credential(app_id=feishu.app_id, app_secret="the-wrong-secret", base_url=feishu.url)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No app above has anything to say."""
    monkeypatch.setattr(credential_check, "_sources", [])


@pytest.fixture
def browser_of(db: None) -> Callable[[str], Client]:
    def make(role: str) -> Client:
        roles.ensure_groups()
        user = get_user_model().objects.create_user(f"staff-{role}", password="x", is_staff=True)
        user.groups.set(Group.objects.filter(name=role))
        client = Client()
        client.force_login(user)
        return client

    return make


def address(credential: PlatformCredential, name: str = "check") -> str:
    return reverse(f"admin:integrations_platformcredential_{name}", args=[credential.pk])


def test_page_of_a_credential_has_the_button(browser_of: Callable[[str], Client], app: PlatformCredential) -> None:
    page = browser_of("operator").get(address(app, "change")).content.decode()

    assert f'action="{address(app)}"' in page
    assert "Check connection" in page


def test_add_page_has_none(browser_of: Callable[[str], Client]) -> None:
    page = browser_of("operator").get(reverse("admin:integrations_platformcredential_add"))

    assert (page.status_code, "Check connection" in page.content.decode()) == (200, False)


def test_check_says_what_is_wrong_and_is_audited(
    browser_of: Callable[[str], Client], app: PlatformCredential, alone: None
) -> None:
    response = browser_of("operator").post(address(app))

    page = response.content.decode()
    assert response.status_code == 200
    assert "1 thing must be put right." in page
    assert "wrong App Secret" in page
    assert "Copy App ID and App Secret again" in page
    assert "the-wrong-secret" not in page
    entry = AuditLog.objects.get(action="credential.checked")
    assert (entry.target_id, entry.changes, entry.actor_label) == (str(app.pk), {"failed": 1}, "staff-operator")


@pytest.mark.parametrize("role", ["security", "auditor"])
def test_who_may_not_change_it_may_not_check_it(
    browser_of: Callable[[str], Client], app: PlatformCredential, feishu: FakeFeishu, role: str
) -> None:
    browser = browser_of(role)

    assert browser.post(address(app)).status_code == 403
    assert "Check connection" not in browser.get(address(app, "change")).content.decode()
    assert feishu.calls == []


def test_link_alone_checks_nothing(
    browser_of: Callable[[str], Client], app: PlatformCredential, feishu: FakeFeishu
) -> None:
    assert browser_of("operator").get(address(app)).status_code == 405
    assert feishu.calls == []


def test_credential_that_is_gone_is_not_found(browser_of: Callable[[str], Client], app: PlatformCredential) -> None:
    gone = address(app)
    app.delete()

    assert browser_of("operator").post(gone).status_code == 404


def test_what_others_found_stands_in_order_and_is_escaped(
    browser_of: Callable[[str], Client], app: PlatformCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [
        Finding("ok", "fine"),
        Finding("warning", "<b>loud</b>", "be quiet", "/admin/"),
        Finding("failed", "out of order"),
    ]
    monkeypatch.setattr(credential_check, "_sources", [])
    credential_check.register(lambda _credential: given)

    page = browser_of("operator").post(address(app)).content.decode()

    assert "2 things must be put right." in page
    places = [
        page.index(text) for text in ("wrong App Secret", "out of order", escape("<b>loud</b>"), "be quiet", "fine")
    ]
    assert places == sorted(places)


# -- what is stored --


def found(credential: PlatformCredential) -> list[Any]:
    return [(one.level, one.what) for one in credential_check.check(credential)][1:]


def test_missing_encrypt_key_is_told(app: PlatformCredential, alone: None) -> None:
    app.encrypt_key = ""
    (refused,) = found(app)
    app.allow_unsigned = True
    (forged,) = found(app)

    assert refused == ("failed", "There is no Encrypt Key: every callback of Feishu is refused.")
    assert forged == ("warning", "There is no Encrypt Key: callbacks are not signed, and can be forged.")


def test_secret_that_cannot_be_read_is_told_and_nobody_is_called(
    app: PlatformCredential, feishu: FakeFeishu, alone: None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE integrations_platformcredential SET app_secret = %s", [b"not sealed by us" * 4])

    (only,) = credential_check.check(PlatformCredential.objects.get(pk=app.pk))

    assert (only.level, only.what.partition(":")[0]) == ("failed", "A stored secret cannot be read")
    assert feishu.calls == []


@pytest.mark.parametrize(
    ("used", "told"),
    [
        (79, []),
        (80, [("warning", "The month's quota is nearly used up: 80 of 100 API calls.")]),
        (100, [("failed", "The month's quota is used up: API calls.")]),
    ],
)
def test_quota_is_told_before_it_ends(app: PlatformCredential, alone: None, used: int, told: list[Any]) -> None:
    app.monthly_api_quota = 100
    app.save()
    app.usage.create(month=quota.month_of(timezone.now()), quota="api", used=used)

    assert found(app) == told
