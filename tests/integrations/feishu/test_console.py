"""What an admin is told about Feishu's console: version, events, callbacks and their addresses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from integrations.checking import Finding, WayIn
from integrations.feishu import console
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import Credentials
from tests.integrations.doubles import MemoryTokens

from .fake_feishu import Answer, FakeFeishu, refused
from .test_check import ALL, INFO, SCOPES, Rerouted, bot, scopes

APP = "GET */application/v6/applications/me"
KEY = "secret-key-of-the-address"
HOOK = WayIn("webhook", f"https://bots.example.com/webhooks/feishu/{KEY}/")
STREAM = WayIn("stream")
EVENTS = [console.MESSAGES, *console.LESS_WITHOUT]


def app_info(way_in: WayIn = HOOK, **changed: Any) -> dict[str, Any]:
    """An app in order."""
    way = console.TYPES[way_in.mode]
    return {
        "online_version_id": "oav_1",
        "unaudit_version_id": "",
        "event": {"subscription_type": way, "request_url": way_in.url, "subscribed_events": EVENTS},
        "callback_info": {
            "callback_type": way,
            "request_url": way_in.url,
            "subscribed_callbacks": ["card.action.trigger"],
        },
    } | changed


def event(**changed: Any) -> dict[str, Any]:
    return app_info()["event"] | changed


def callback(**changed: Any) -> dict[str, Any]:
    return app_info()["callback_info"] | changed


def told(info: dict[str, Any], way_in: WayIn = HOOK) -> list[tuple[str, str]]:
    return [(found.level, found.what) for found in console.findings(info, way_in)]


IN_ORDER = [
    ("ok", "Event Configuration (事件配置) leads here."),
    ("ok", "Callback Configuration (回调配置) leads here."),
]


@pytest.mark.parametrize("way_in", [HOOK, STREAM])
def test_app_in_order_leads_here(way_in: WayIn) -> None:
    assert told(app_info(way_in), way_in) == IN_ORDER


def test_last_slash_of_the_address_does_not_matter() -> None:
    assert told(app_info(event=event(request_url=HOOK.url.rstrip("/")))) == IN_ORDER


def test_callbacks_are_found_under_their_other_name() -> None:
    info = app_info()
    info["callback"] = info.pop("callback_info")

    assert told(info) == IN_ORDER


@pytest.mark.parametrize(
    ("info", "finding"),
    [
        (
            app_info(online_version_id=""),
            ("failed", "No version of the app is published: scopes, events and callbacks do not work before."),
        ),
        (
            app_info(unaudit_version_id="oav_2"),
            ("warning", "A version of the app waits for the approval of an admin of the company."),
        ),
        (
            app_info(event=event(request_url=f"https://old.example.com/webhooks/feishu/{KEY}/")),
            (
                "failed",
                "Event Configuration (事件配置) has another address than the endpoint's; it leads to old.example.com.",
            ),
        ),
        (
            app_info(event=event(request_url="https://bots.example.com/webhooks/feishu/other-key/")),
            (
                "failed",
                "Event Configuration (事件配置) has another address than the endpoint's; it leads to bots.example.com.",
            ),
        ),
        (app_info(event=event(request_url="")), ("failed", "Event Configuration (事件配置) has no address.")),
        (
            app_info(event=event(subscription_type="websocket")),
            (
                "failed",
                "Event Configuration (事件配置): Feishu does not send to an address, for which the endpoint is set.",
            ),
        ),
        (
            app_info(event=event(subscribed_events=list(console.LESS_WITHOUT))),
            ("failed", "Not added under Event Configuration (事件配置): im.message.receive_v1."),
        ),
        (
            app_info(event=event(subscribed_events=EVENTS[:-1])),
            (
                "warning",
                "Not added under Event Configuration (事件配置), so that the bot does less: application.bot.menu_v6.",
            ),
        ),
        (
            app_info(callback_info=callback(subscribed_callbacks=[])),
            ("warning", "Not added under Callback Configuration (回调配置): card.action.trigger."),
        ),
        (
            app_info(callback_info=callback(request_url="https://[")),
            ("warning", "Callback Configuration (回调配置) has another address than the endpoint's; it leads to –."),
        ),
    ],
)
def test_what_is_wrong_in_the_console_is_told(info: dict[str, Any], finding: tuple[str, str]) -> None:
    found = [one for one in told(info) if one[0] != "ok"]

    assert found == [finding]
    assert all(one.fix for one in console.findings(info, HOOK) if one.level != "ok")


def test_endpoint_of_a_long_connection_wants_it_in_the_console() -> None:
    words = "Feishu does not use the long connection, for which the endpoint is set."

    assert told(app_info(HOOK), STREAM) == [
        (
            "failed",
            f"Event Configuration (事件配置): {words}",
        ),
        (
            "warning",
            f"Callback Configuration (回调配置): {words}",
        ),
    ]


def test_without_an_endpoint_only_the_version_is_looked_at() -> None:
    assert told(app_info(online_version_id=None), WayIn()) == [
        ("failed", "No version of the app is published: scopes, events and callbacks do not work before.")
    ]


@pytest.mark.parametrize("info", [{}, {"event": None, "callback_info": "x"}, {"event": [], "callback": {}}])
def test_what_feishu_does_not_tell_is_not_complained_about(info: dict[str, Any]) -> None:
    assert told(info) == []


@pytest.mark.parametrize("info", [{"event": {"subscribed_events": 5}}, {"event": {"request_url": 5}}])
def test_odd_answers_are_no_error(info: dict[str, Any]) -> None:
    assert {level for level, _what in told(info)} == {"failed", "warning"}


# -- as part of the check -------------------------------------------------------------------------------------------


def checked(feishu: FakeFeishu, app: Credentials, answer: Answer, way_in: WayIn = HOOK) -> list[Finding]:
    for pattern, given in ((INFO, bot()), (SCOPES, scopes(*ALL)), (APP, answer)):
        feishu.trouble(pattern, given)
    with httpx.Client(transport=Rerouted(feishu)) as http:
        adapter = FeishuAdapter(http, MemoryTokens())
        return adapter.check(replace(app, api_url="https://open.feishu.cn"), way_in)


def answered(info: dict[str, Any]) -> Answer:
    return Answer(200, {"code": 0, "data": {"app": info}})


def test_finding_links_to_the_page_that_mends_it(feishu: FakeFeishu, app: Credentials) -> None:
    info = app_info(online_version_id="", event=event(request_url=""), callback_info=callback(request_url=""))
    found = checked(feishu, app, answered(info))

    assert [one.link for one in found if one.level != "ok"] == [
        "https://open.feishu.cn/app/cli_1/version",
        "https://open.feishu.cn/app/cli_1/event",
        "https://open.feishu.cn/app/cli_1/event?tab=callback",
    ]


def test_missing_scope_for_the_app_itself_is_told_with_the_page_that_grants_it(
    feishu: FakeFeishu, app: Credentials
) -> None:
    found = checked(feishu, app, refused(99991672))[-1]

    assert found == Finding(
        "warning",
        "Whether address, events and version in Feishu's console are right cannot be told from here.",
        "To have them checked as well, add the scope application:application:self_manage and publish a version.",
        "https://open.feishu.cn/app/cli_1/auth?q=application:application:self_manage&op_from=openapi&token_type=tenant",
    )


@pytest.mark.parametrize("answer", [refused(210508), Answer(404, "no such page")], ids=str)
def test_feishu_that_does_not_know_the_call_is_not_complained_about(
    feishu: FakeFeishu, app: Credentials, answer: Answer
) -> None:
    assert {one.level for one in checked(feishu, app, answer)} == {"ok"}


def test_no_finding_holds_the_key_of_an_address(feishu: FakeFeishu, app: Credentials) -> None:
    infos = [app_info(), app_info(event=event(request_url=f"https://x.example/{KEY}")), app_info(STREAM)]
    found = [one for info in infos for one in checked(feishu, app, answered(info))]

    assert KEY not in repr(found)
