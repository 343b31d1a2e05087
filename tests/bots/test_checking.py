"""What the connection check says of the bot behind an app, told from the database alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from bots import checking
from bots.models import Endpoint, LongConnection
from integrations.checking import Finding, WayIn
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def public_site(settings: Any) -> None:
    settings.PUBLIC_URL = "https://bots.example.com"


def told(endpoint: Endpoint) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in checking.findings(endpoint.credential)]


def heard(**values: Any) -> Endpoint:
    return factories.endpoint(last_event_at=timezone.now(), **values)


def page(endpoint: Endpoint) -> str:
    return reverse("admin:bots_endpoint_change", args=[endpoint.pk])


def test_app_in_order_is_told_with_its_address_and_last_event(time_zone_utc: None) -> None:
    endpoint = factories.endpoint(last_event_at=timezone.now().replace(2026, 11, 2, 3, 4))

    address, event = checking.findings(endpoint.credential)

    assert address == Finding(
        "ok",
        "The address for the platform's console is on the endpoint's page; it begins with https://bots.example.com.",
        link=page(endpoint),
    )
    assert event == Finding("ok", "The platform's last event came at 2026-11-02 03:04.", link=page(endpoint))
    assert endpoint.key not in repr((address, event))


def test_app_without_an_endpoint_says_where_to_add_one() -> None:
    (found,) = checking.findings(factories.credential())

    assert (found.level, found.what) == ("failed", "No bot is joined to this app.")
    assert found.link == reverse("admin:bots_endpoint_add")


def test_disabled_endpoint_and_disabled_bot_are_told() -> None:
    closed = factories.endpoint(is_enabled=False)
    silent = factories.endpoint(bot=factories.bot(name="Helper", is_enabled=False))

    what = "The endpoint of this app is disabled: what the platform sends is refused."
    assert told(closed) == [("failed", what)]
    assert told(silent) == [("failed", "The bot Helper is disabled: nobody answers.")]


def test_enabled_endpoint_counts_beside_disabled_ones() -> None:
    live = heard()
    factories.endpoint(credential=live.credential, is_enabled=False)

    assert [level for level, _what in told(live)] == ["ok", "ok"]


def test_app_that_was_never_heard_names_the_causes() -> None:
    found = checking.findings(factories.endpoint().credential)[1]

    assert (found.level, found.what) == ("warning", "No event of the platform came so far.")
    assert "the version is not published" in found.fix


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000",
        "https://localhost",
        "https://10.1.2.3",
        "https://intranet",
        "https://[::1]",
        "https://a.local",
    ],
)
def test_site_that_no_platform_can_reach_is_told(settings: Any, address: str) -> None:
    settings.PUBLIC_URL = address
    found = checking.findings(heard().credential)[0]

    assert found.level == "failed"
    assert found.what == f"The platform cannot reach this site: {address} is no address on the internet."
    assert "choose the long connection" in found.fix


def test_site_without_https_is_told(settings: Any) -> None:
    settings.PUBLIC_URL = "http://bots.example.com"

    assert told(heard())[0] == ("warning", "The site's address is not https: http://bots.example.com.")


@pytest.mark.parametrize(
    ("state", "held_for_s", "level", "words", "fix"),
    [
        ("connected", 10, "ok", "connected", ""),
        ("connected", -1, "failed", "nobody holds it", "manage.py listen"),
        ("refused", 10, "failed", "refused by the platform", "wrong secret"),
        ("waiting", 10, "warning", "interrupted, tried again soon", "wrong secret"),
    ],
)
def test_long_connection_is_told_as_it_is_now(
    settings: Any, state: str, held_for_s: int, level: str, words: str, fix: str
) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:8000"  # which a long connection does not need
    endpoint = heard(mode="stream")
    until = timezone.now() + timedelta(seconds=held_for_s)
    LongConnection.objects.create(endpoint=endpoint, state=state, held_until=until, detail="wrong secret")

    found = checking.findings(endpoint.credential)[0]

    assert (found.level, found.what) == (level, f"The long connection: {words}.")
    assert fix in found.fix


def test_long_connection_that_nobody_ever_held_is_told() -> None:
    assert told(heard(mode="stream"))[0] == ("failed", "The long connection: nobody holds it.")


def test_last_error_and_last_failed_message_are_told(time_zone_utc: None) -> None:
    endpoint = heard(last_error="wrong App Secret")
    for day, error in ((1, "old trouble"), (2, "the bot is not in this chat")):
        when = timezone.now().replace(2026, 11, day, 3, 4)
        _dead(endpoint, error, when)
    _dead(heard(), "trouble of another app", timezone.now())

    assert told(endpoint)[2:] == [
        ("warning", "The last error of the endpoint: wrong App Secret"),
        ("warning", "The last message that failed, at 2026-11-02 03:04: the bot is not in this chat"),
    ]


@pytest.mark.parametrize(
    ("platform", "mode", "template", "is_told"),
    [
        ("dingtalk", "stream", "", True),
        ("dingtalk", "stream", "t.schema", False),
        ("dingtalk", "text", "", False),
        ("feishu", "stream", "", False),
    ],
)
def test_card_template_is_missed_where_answers_should_stream(
    platform: str, mode: str, template: str, is_told: bool
) -> None:
    credential = factories.credential(platform, card_template_id=template)
    found = told(heard(bot=factories.bot(reply_mode=mode), credential=credential))

    assert [what for _level, what in found if "no card template" in what] == (
        ["The bot shows its answers as they are written, but the credential has no card template."] if is_told else []
    )


def _dead(endpoint: Endpoint, error: str, when: Any) -> None:
    app = endpoint.credential
    question = factories.web_question(endpoint.bot, status="failed", error=error, received_at=when)
    type(question).objects.filter(pk=question.pk).update(platform=app.platform, app_id=app.app_id)


@pytest.fixture
def time_zone_utc(settings: Any) -> None:
    settings.TIME_ZONE = "UTC"


def test_platform_should_reach_the_live_endpoint_in_its_mode() -> None:
    webhook, stream = factories.endpoint(), factories.endpoint(mode=Endpoint.Mode.STREAM)
    silent = factories.endpoint(is_enabled=False)

    assert checking.way_in(webhook.credential) == WayIn("webhook", webhook.webhook_url)
    assert checking.way_in(stream.credential) == WayIn("stream")
    assert checking.way_in(silent.credential) == WayIn()
    assert webhook.key not in repr(checking.way_in(webhook.credential))
