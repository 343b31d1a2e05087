"""What an admin is told about a Feishu app, from the answers that Feishu gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from clawdbot_site.security.outbound import guarded_client
from integrations import breaker
from integrations.breaker import THRESHOLD
from integrations.checking import Finding
from integrations.feishu import check
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import Credentials
from tests.integrations.doubles import MemoryTokens

from .fake_feishu import TOKEN, Answer, FakeFeishu, refused

INFO = "GET */bot/v3/info"
SCOPES = "GET */application/v6/scopes"
ALL = [need.scopes[0] for need in check.NEEDS]
TOKEN_OK = Finding("ok", "Feishu accepts App ID and App Secret.")
BOT_OK = Finding("ok", "The bot is enabled. Its name in Feishu: Helper")
SCOPES_OK = Finding("ok", "All scopes that the bot needs are granted.")


class Rerouted(httpx.HTTPTransport):
    """Feishu's own address, answered by the fake."""

    def __init__(self, fake: FakeFeishu) -> None:
        super().__init__()
        self._port = httpx.URL(fake.url).port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return super().handle_request(request)


def bot(status: int = 2) -> Answer:
    return Answer(200, {"code": 0, "bot": {"open_id": "ou_bot", "app_name": "Helper", "activate_status": status}})


def scopes(*granted: str, asked: tuple[str, ...] = ()) -> Answer:
    rows = [{"scope_name": name, "grant_status": 1, "scope_type": "tenant"} for name in granted]
    rows += [{"scope_name": name, "grant_status": 2, "scope_type": "tenant"} for name in asked]
    return Answer(200, {"code": 0, "data": {"scopes": rows}})


def told(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials, *answers: tuple[str, Answer]) -> list[Finding]:
    for pattern, answer in answers:
        feishu.trouble(pattern, answer)
    return adapter.check(app)


def test_app_in_order_is_told_by_reading_calls(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials) -> None:
    assert told(feishu, adapter, app, (INFO, bot()), (SCOPES, scopes(*ALL))) == [TOKEN_OK, BOT_OK, SCOPES_OK]
    assert [call.rpartition("/open-apis")[2] for call in feishu.calls] == [
        "/auth/v3/tenant_access_token/internal",
        "/bot/v3/info",
        "/application/v6/scopes",
        "/application/v6/applications/me",
    ]


def test_wider_scopes_do_as_well(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials) -> None:
    wider = scopes("im:message.p2p_msg", "im:message.group_msg", "im:message", "cardkit:card:write")

    assert told(feishu, adapter, app, (INFO, bot()), (SCOPES, wider))[-1] == SCOPES_OK


def test_wrong_secret_is_told_though_a_token_of_the_right_one_still_lives(
    feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials, tokens: MemoryTokens
) -> None:
    adapter.fetch_own_id(app)

    assert adapter.check(replace(app, app_secret="wrong-secret")) == [
        Finding(
            "failed",
            "Feishu, access token: wrong App Secret: copy it again from Feishu's console "
            "(code 10015, app secret invalid)",
            "Copy App ID and App Secret again from Credentials & Basic Info (凭证与基础信息).",
        )
    ]
    assert len(tokens.values) == 1


def test_bot_ability_that_is_off_is_told_with_the_scopes(
    feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials
) -> None:
    found = told(feishu, adapter, app, (INFO, refused(11205, "app do not have bot")), (SCOPES, scopes(*ALL)))

    assert [(one.level, one.fix) for one in found] == [
        ("failed", "Under Add Features (添加应用能力) add the Bot (机器人), then publish a version."),
        ("ok", ""),
    ]


@pytest.mark.parametrize("status", [0, 1, 3, 4, None])
def test_bot_that_is_not_enabled_fails(
    feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials, status: Any
) -> None:
    found = told(feishu, adapter, app, (INFO, bot(status)), (SCOPES, scopes(*ALL)))

    assert found[1].level == "failed"
    assert found[1].what == f"The bot is not enabled in this company (activate_status {status})."
    assert found[1].fix.startswith("Under Version Management & Release")


def test_missing_scopes_are_named_with_the_page_that_grants_them(feishu: FakeFeishu, app: Credentials) -> None:
    with httpx.Client(transport=Rerouted(feishu)) as http:
        adapter = FeishuAdapter(http, MemoryTokens())
        real = replace(app, api_url="https://open.feishu.cn")
        found = told(feishu, adapter, real, (INFO, bot()), (SCOPES, scopes("im:message.p2p_msg:readonly")))

    must, may = found[2:]
    assert (must.level, may.level) == ("failed", "warning")
    assert must.what == "Scopes are missing: im:message.group_at_msg:readonly, im:message:send_as_bot."
    assert must.link == (
        "https://open.feishu.cn/app/cli_1/auth?q=im:message.group_at_msg:readonly,im:message:send_as_bot"
        "&op_from=openapi&token_type=tenant"
    )
    assert may.what.endswith(": im:message:readonly, cardkit:card:write, im:message.reactions:write_only.")


def test_scopes_that_wait_for_a_version_are_told_so(
    feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials
) -> None:
    waiting = scopes(*ALL[:2], *ALL[3:], asked=("im:message:send_as_bot",))
    found = told(feishu, adapter, app, (INFO, bot()), (SCOPES, waiting))

    assert [(one.level, one.what) for one in found[2:]] == [("failed", "Scopes are missing: im:message:send_as_bot.")]
    assert found[2].fix.startswith("Under Version Management & Release")


def test_scopes_of_persons_do_not_count(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials) -> None:
    rows = [{"scope_name": name, "grant_status": 1, "scope_type": "user"} for name in ALL]
    found = told(feishu, adapter, app, (INFO, bot()), (SCOPES, Answer(200, {"code": 0, "data": {"scopes": rows}})))

    assert [one.level for one in found[2:]] == ["failed", "warning"]


@pytest.mark.parametrize(
    ("answer", "level", "fix"),
    [
        (refused(99991401, "ip denied"), "failed", "Add this server's public address to the IP allow list"),
        (refused(99991403, "quota"), "failed", "Raise the company's plan"),
        (refused(99991673, "unavailable"), "failed", "Under Version Management & Release"),
        (refused(99991672, "scope"), "failed", "Add the scope under Permissions & Scopes"),
        (refused(99991400, "frequency limit"), "warning", "Check again in a minute."),
        (Answer(502, "bad gateway"), "failed", "Check this server's network"),
    ],
)
def test_refusal_says_what_to_do_and_ends_the_check(
    feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials, answer: Answer, level: str, fix: str
) -> None:
    (found,) = told(feishu, adapter, app, (INFO, answer))

    assert (found.level, found.fix.startswith(fix)) == (level, True)
    assert feishu.asked(SCOPES) == 0


def test_scopes_that_cannot_be_read_are_no_fault_of_the_bot(
    feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials
) -> None:
    found = told(feishu, adapter, app, (INFO, bot()), (SCOPES, refused(99991404, "404 page not found")))

    assert [one.level for one in found[:3]] == ["ok", "ok", "warning"]


@pytest.mark.parametrize("data", [None, [], {"scopes": None}, {"scopes": ["im:message", {"scope_name": 3}]}])
def test_odd_answers_are_no_scopes(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials, data: Any) -> None:
    found = told(feishu, adapter, app, (INFO, bot()), (SCOPES, Answer(200, {"code": 0, "data": data})))

    assert [one.level for one in found[2:]] == ["failed", "warning"]


@pytest.mark.django_db
def test_forbidden_address_names_the_setting(feishu: FakeFeishu, app: Credentials, settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = []

    with guarded_client() as http:
        (found,) = FeishuAdapter(http, MemoryTokens()).check(app)

    assert (found.level, "OUTBOUND_ALLOWED_NETWORKS" in found.fix, feishu.calls) == ("failed", True, [])


def test_held_back_app_is_not_called(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials) -> None:
    for _time in range(THRESHOLD):
        breaker.breaker_of(f"feishu:{app.api_url}:{app.app_id}:api").report("wrong App Secret")

    (found,) = adapter.check(app)

    assert (found.level, "wrong App Secret" in found.what, feishu.calls) == ("warning", True, [])


def test_no_finding_holds_a_secret(feishu: FakeFeishu, adapter: FeishuAdapter, app: Credentials) -> None:
    found = [*told(feishu, adapter, app, (INFO, bot()), (SCOPES, scopes())), *adapter.check(replace(app, app_id="x"))]
    found += told(feishu, adapter, app, (TOKEN, Answer(500, "internal error")))

    text = repr(found)
    assert [secret for secret in (app.app_secret, app.encrypt_key, *feishu.tokens) if secret in text] == []
