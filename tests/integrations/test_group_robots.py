"""Custom group robots as an admin meets them: the form, the test message, what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse

from clawdbot_site.security import roles
from integrations import group_robots
from integrations.errors import PlatformError
from integrations.models import GroupRobot
from monitoring.models import AuditLog
from tests import factories
from tests.integrations.dingtalk.fake_dingtalk import CUT_AFTER, ROBOT, FakeDingTalk

pytestmark = pytest.mark.django_db
TOKEN = "exampletoken0123456789"


@pytest.fixture(autouse=True)
def no_static_files(settings: Any) -> None:
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected


@pytest.fixture
def dingtalk(settings: Any) -> Iterator[FakeDingTalk]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with FakeDingTalk(robots={TOKEN: "SECsecret"}) as fake:
        settings.PLATFORM_URLS = {**settings.PLATFORM_URLS, "dingtalk": (fake.api_url, fake.oapi_url)}
        yield fake


@pytest.fixture
def robot(dingtalk: FakeDingTalk) -> GroupRobot:
    url = f"{dingtalk.oapi_url}{ROBOT}?access_token={TOKEN}"
    return factories.group_robot(name="Operations", webhook_url=url, signing_secret="SECsecret")


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


def address(name: str, *args: Any) -> str:
    return reverse(f"admin:integrations_grouprobot_{name}", args=args)


# -- notify ---------------------------------------------------------------------------------------------------------


def test_message_is_in_the_group_and_the_row_says_when(robot: GroupRobot, dingtalk: FakeDingTalk) -> None:
    GroupRobot.objects.update(last_error="old")

    group_robots.notify(robot, "Disk full", "95 %")

    robot.refresh_from_db()
    assert dingtalk.seen == [("robot", "#### Disk full\n\n95 %")]
    assert robot.last_sent_at is not None
    assert robot.last_error == ""


def test_refusal_is_kept_in_words(robot: GroupRobot, dingtalk: FakeDingTalk) -> None:
    dingtalk.robots[TOKEN] = "SECother"

    with pytest.raises(PlatformError, match="signing secret"):
        group_robots.notify(robot, "", "95 %")

    robot.refresh_from_db()
    assert "signing secret is not the robot's" in robot.last_error
    assert robot.last_sent_at is None


def test_robot_that_is_switched_off_sends_nothing(robot: GroupRobot, dingtalk: FakeDingTalk) -> None:
    robot.is_enabled = False
    with pytest.raises(PlatformError, match="switched off"):
        group_robots.notify(robot, "", "95 %")
    assert dingtalk.calls == []


def test_secret_that_cannot_be_read_is_told_in_words(robot: GroupRobot, dingtalk: FakeDingTalk) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE integrations_grouprobot SET webhook_url = %s", [b"garbage"])
    with pytest.raises(PlatformError, match="cannot be read"):
        group_robots.notify(GroupRobot.objects.get(), "", "95 %")


def test_address_is_encrypted_in_the_database(robot: GroupRobot) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT webhook_url, signing_secret FROM integrations_grouprobot")
        stored = b"".join(map(bytes, cursor.fetchone()))
    assert TOKEN.encode() not in stored
    assert b"SECsecret" not in stored


# -- the admin ------------------------------------------------------------------------------------------------------


def test_pasted_address_is_kept_and_never_shown(browser_of: Callable[[str], Client]) -> None:
    pasted = f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}&timestamp=1&sign=x"
    given = {"name": "Ops", "platform": "dingtalk", "webhook_url": pasted, "signing_secret": "SECs", "is_enabled": "on"}
    browser = browser_of("operator")

    response = browser.post(address("add"), given)

    made = GroupRobot.objects.get()
    assert response.status_code == 302
    assert made.webhook_url == f"https://oapi.dingtalk.com/robot/send?access_token={TOKEN}"
    assert TOKEN not in browser.get(address("change", made.pk)).content.decode()
    assert TOKEN not in str(AuditLog.objects.get(action="grouprobot.created").changes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"webhook_url": "https://oapi.dingtalk.com/robot/send"}, "lacks its access_token"),
        ({"webhook_url": f"https://thief.example/robot/send?access_token={TOKEN}"}, "Paste the whole webhook address"),
        ({}, "This field is required"),
    ],
)
def test_wrong_address_is_refused_in_words(
    browser_of: Callable[[str], Client], given: dict[str, str], words: str
) -> None:
    page = browser_of("operator").post(address("add"), {"name": "Ops", "platform": "dingtalk", **given})

    assert words in page.content.decode()
    assert not GroupRobot.objects.exists()


def test_test_message_says_that_it_is_there(
    browser_of: Callable[[str], Client], robot: GroupRobot, dingtalk: FakeDingTalk
) -> None:
    browser = browser_of("operator")
    assert f'action="{address("test", robot.pk)}"' in browser.get(address("change", robot.pk)).content.decode()

    page = browser.post(address("test", robot.pk), follow=True).content.decode()

    assert "The message is in the group." in page
    assert dingtalk.seen == [("robot", "#### Test\n\nA test message from ClawdBot. All is well.")]
    assert AuditLog.objects.get(action="grouprobot.tested").changes == {"outcome": "sent"}


@pytest.mark.parametrize(
    ("faults", "words", "outcome"),
    [
        ([(200, {"errcode": 400102, "errmsg": "x"})], "switched off in the group", "refused"),
        ([CUT_AFTER, CUT_AFTER], "the message may have arrived", "unknown"),
    ],
)
def test_test_message_says_what_is_wrong(
    browser_of: Callable[[str], Client],
    robot: GroupRobot,
    dingtalk: FakeDingTalk,
    faults: list[Any],
    words: str,
    outcome: str,
) -> None:
    dingtalk.fail(ROBOT, *faults)

    page = browser_of("operator").post(address("test", robot.pk), follow=True).content.decode()

    assert words in page
    assert AuditLog.objects.get(action="grouprobot.tested").changes == {"outcome": outcome}


@pytest.mark.parametrize("role", ["security", "auditor"])
def test_who_may_not_change_it_may_not_send_by_it(
    browser_of: Callable[[str], Client], robot: GroupRobot, dingtalk: FakeDingTalk, role: str
) -> None:
    browser = browser_of(role)

    assert "Send a test message" not in browser.get(address("change", robot.pk)).content.decode()
    assert browser.post(address("test", robot.pk)).status_code == 403
    assert dingtalk.calls == []


def test_test_message_needs_a_press_of_the_button(browser_of: Callable[[str], Client], robot: GroupRobot) -> None:
    assert browser_of("operator").get(address("test", robot.pk)).status_code == 405
