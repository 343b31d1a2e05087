"""What an admin is told about a DingTalk app, from the answers that DingTalk gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations.checking import Finding
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.values import Credentials
from tests.integrations.doubles import MemoryTokens

from .fake_dingtalk import CUT_BEFORE, STREAM, TOKEN, FakeDingTalk

ROBOT = "/v1.0/robot/groupMessages/query"
CARD = "/v1.0/card/instances"
CONSOLE = "https://open-dev.dingtalk.com/"
NO_SUCH_CHAT = (400, {"code": "invalid.openConversationId", "message": "no"})
NO_SUCH_CARD = (400, {"code": "param.cardNotExist", "message": "no"})
TOKEN_OK = Finding("ok", "DingTalk accepts Client ID and Client Secret.")
ROBOT_OK = Finding("ok", "The robot may send messages.")
CARDS_OK = Finding("ok", "The app may make cards and write on them.")


@pytest.fixture
def adapter(http: httpx.Client, tokens: MemoryTokens) -> DingTalkAdapter:
    return DingTalkAdapter(http, tokens)


def denied(*scopes: str) -> tuple[int, Any]:
    code = "Forbidden.AccessDenied.AccessTokenPermissionDenied"
    return 403, {"code": code, "message": "no", "accessdenieddetail": {"requiredScopes": list(scopes)}}


def forbidden(name: str, message: str = "no") -> tuple[int, Any]:
    return 403, {"code": f"Forbidden.AccessDenied.{name}", "message": message}


def test_app_in_order_is_told_and_nobody_sees_anything(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials
) -> None:
    dingtalk.fail(ROBOT, NO_SUCH_CHAT)
    dingtalk.fail(CARD, NO_SUCH_CARD)

    assert adapter.check(credentials) == [TOKEN_OK, ROBOT_OK, CARDS_OK]
    assert [path for path, _body in dingtalk.calls] == [TOKEN, ROBOT, CARD, STREAM]
    assert (dingtalk.seen, dingtalk.cards) == ([], {})


def test_cards_are_not_asked_about_without_a_template(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials
) -> None:
    dingtalk.fail(ROBOT, NO_SUCH_CHAT)

    assert adapter.check(replace(credentials, card_template_id="")) == [TOKEN_OK, ROBOT_OK]
    assert dingtalk.paths() == [ROBOT]


@pytest.mark.parametrize(("robot_code", "sent"), [("", "dingapp"), ("dingrobot", "dingrobot")])
def test_robot_is_the_one_of_the_credential(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials, robot_code: str, sent: str
) -> None:
    dingtalk.fail(ROBOT, (400, {"code": "invalidParameter.robotCode.notExsit", "message": "no"}))

    found = adapter.check(replace(credentials, card_template_id="", robot_code=robot_code))

    assert [body["robotCode"] for path, body in dingtalk.calls if path == ROBOT] == [sent]
    assert [one.level for one in found] == ["ok", "failed"]
    assert found[1].fix.startswith("Publish the robot (机器人) of this app")


def test_wrong_secret_is_told_though_a_token_of_the_right_one_still_lives(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials, tokens: MemoryTokens
) -> None:
    tokens.set(f"dingtalk:token:{credentials.api_url}:{credentials.app_id}", dingtalk.token, 7200.0)

    (found,) = adapter.check(replace(credentials, app_secret="wrong-secret"))

    assert found == Finding(
        "failed",
        "DingTalk refused to give an access token: app_id or app_secret is wrong; copy both again from the console "
        "(code invalidClientIdOrSecret)",
        "Copy Client ID and Client Secret again from Credentials (凭证与基础信息).",
        CONSOLE,
    )
    assert dingtalk.paths() == []


def test_each_missing_permission_is_named(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials
) -> None:
    dingtalk.fail(ROBOT, denied("qyapi_robot_sendmsg"))
    dingtalk.fail(CARD, denied("Card.Instance.Write"))
    dingtalk.fail(STREAM, denied("Card.Streaming.Write"))

    accepted, *missing = adapter.check(credentials)

    assert accepted == TOKEN_OK
    assert {(one.level, one.link, one.fix.split(",")[0]) for one in missing} == {
        ("failed", CONSOLE, "Request it under Permissions (权限管理)")
    }
    for one, scope in zip(missing, ("qyapi_robot_sendmsg", "Card.Instance.Write", "Card.Streaming.Write"), strict=True):
        assert f"({scope})" in one.what


def test_address_that_is_not_on_the_list_is_named_once(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials
) -> None:
    dingtalk.fail(ROBOT, forbidden("IpNotInWhiteList", "request ip=203.0.113.7 is not allowed"))

    accepted, found = adapter.check(credentials)

    assert accepted == TOKEN_OK
    assert (found.level, "203.0.113.7" in found.what) == ("failed", True)
    assert found.fix.startswith("Add this server's public address under Security Settings")
    assert dingtalk.paths() == [ROBOT]


@pytest.mark.parametrize(
    ("answer", "level", "fix"),
    [
        (forbidden("ApiCountLimitForOrg"), "failed", "Raise the company's plan"),
        (forbidden("QpsLimitForAppkeyAndApi"), "warning", "Check again in a minute."),
        ((200, {"status": 1111, "punish": "deny"}), "warning", "Check again in a minute."),
        ((503, {"code": "system.busy", "message": "no"}), "warning", "Check again in a minute."),
        (CUT_BEFORE, "failed", "Check this server's network"),
    ],
)
def test_refusal_says_what_to_do(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials, answer: Any, level: str, fix: str
) -> None:
    dingtalk.fail(ROBOT, answer)

    found = adapter.check(replace(credentials, card_template_id=""))[-1]

    assert (found.level, found.fix.startswith(fix)) == (level, True)


def test_address_that_is_not_dingtalk_is_never_taken_for_it(
    dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials
) -> None:
    dingtalk.fail(TOKEN, (404, {"error": "not found"}))

    assert [one.level for one in adapter.check(credentials)] == ["failed"]


@pytest.mark.django_db
def test_forbidden_address_names_the_setting(dingtalk: FakeDingTalk, credentials: Credentials, settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = []

    with guarded_client() as http:
        (found,) = DingTalkAdapter(http, MemoryTokens()).check(credentials)

    assert (found.level, "OUTBOUND_ALLOWED_NETWORKS" in found.fix, dingtalk.calls) == ("failed", True, [])


def test_no_finding_holds_a_secret(dingtalk: FakeDingTalk, adapter: DingTalkAdapter, credentials: Credentials) -> None:
    dingtalk.fail(ROBOT, denied("qyapi_robot_sendmsg"), NO_SUCH_CHAT)
    found = [*adapter.check(credentials), *adapter.check(replace(credentials, app_id="x"))]

    assert [secret for secret in (credentials.app_secret, dingtalk.token) if secret in repr(found)] == []
