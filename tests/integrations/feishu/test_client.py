"""Calls on a real socket: tokens, answers, errors in words."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from integrations.feishu import cards, refusals
from integrations.feishu.adapter import FeishuAdapter
from integrations.feishu.client import FeishuClient
from integrations.feishu.refusals import FeishuError
from integrations.values import Credentials
from tests.integrations.doubles import MemoryTokens

from .fake_feishu import (
    CUT_AFTER,
    CUT_BEFORE,
    NO_CARD_SCOPE,
    RATE_LIMITED,
    SEND,
    SERVER_ERROR,
    TOKEN,
    Answer,
    FakeFeishu,
    refused,
)

HELLO = cards.text_part("hello")


def send(client: FeishuClient, uuid: str = "uuid-1") -> str:
    return client.send_message("chat_id", "oc_1", HELLO, uuid)


def test_own_id_is_the_bots_open_id(adapter: FeishuAdapter, app: Credentials) -> None:
    assert adapter.fetch_own_id(app) == "ou_bot"


def test_one_token_serves_many_calls(client: FeishuClient, feishu: FakeFeishu, tokens: MemoryTokens) -> None:
    for number in range(5):
        send(client, f"uuid-{number}")

    assert feishu.asked(TOKEN) == 1
    assert tokens.ttls_s == [6600]


def test_one_token_is_fetched_when_many_workers_want_it(client: FeishuClient, feishu: FakeFeishu) -> None:
    feishu.token_takes_s = 0.1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: send(client, f"uuid-{number}"), range(8)))

    assert feishu.asked(TOKEN) == 1


def test_tokens_of_two_apps_and_two_hosts_are_kept_apart(
    client: FeishuClient, app: Credentials, http: httpx.Client, feishu: FakeFeishu, tokens: MemoryTokens
) -> None:
    send(client)
    with FakeFeishu() as lark:
        send(FeishuClient(replace(app, api_url=lark.url), http, tokens))

    assert len(tokens.values) == 2


def test_refused_token_is_replaced_once(client: FeishuClient, feishu: FakeFeishu) -> None:
    send(client)
    feishu.tokens.clear()

    send(client, "uuid-2")

    assert feishu.asked(TOKEN) == 2
    assert len(feishu.messages) == 2


@pytest.mark.rule("E10")
def test_the_platforms_own_words_repeat_no_secret(client: FeishuClient, feishu: FakeFeishu, app: Credentials) -> None:
    send(client)
    (token,) = feishu.tokens
    feishu.trouble(SEND, refused(230099, f"card refused, token {token}, secret {app.app_secret}"))

    with pytest.raises(FeishuError) as raised:
        send(client, "uuid-2")

    assert str(raised.value).endswith("card refused, token ***, secret ***)")


@pytest.mark.parametrize("code", sorted(refusals.TOKEN_REFUSED))
@pytest.mark.parametrize("status", [200, 400, 401])
def test_call_is_repeated_exactly_once_when_the_token_stays_refused(
    client: FeishuClient, feishu: FakeFeishu, code: int, status: int
) -> None:
    feishu.trouble(SEND, Answer(status, {"code": code, "msg": "Invalid access token"}), times=9)

    with pytest.raises(FeishuError) as raised:
        send(client)

    assert (raised.value.code, raised.value.is_refusal) == (code, True)
    assert (feishu.asked(SEND), feishu.asked(TOKEN)) == (2, 2)


def test_newer_token_of_another_worker_is_taken_when_the_old_one_is_refused(
    client: FeishuClient, feishu: FakeFeishu, tokens: MemoryTokens
) -> None:
    send(client)
    key, token = next(iter(tokens.values.items()))
    feishu.trouble(SEND, refused(99991663))
    tokens.values[key] = "t-stale"
    original = tokens.lock

    def lock(name: str) -> Any:
        tokens.values[key] = token  # another worker was faster
        return original(name)

    tokens.lock = lock
    send(client, "uuid-2")

    assert feishu.asked(TOKEN) == 1


def test_same_uuid_shows_one_message(client: FeishuClient, feishu: FakeFeishu) -> None:
    assert send(client) == send(client)
    assert len(feishu.messages) == 1


@pytest.mark.parametrize(
    ("fault", "permanent", "retry_after_s", "is_refusal"),
    [
        (RATE_LIMITED, False, 0.02, True),
        (Answer(429, {"code": 99991400}, (("Retry-After", "7"),)), False, 7.0, True),
        (Answer(429, {"code": 99991400}, (("Retry-After", "Sun, 22 Nov 2026 00:00:00 GMT"),)), False, 1.0, True),
        (refused(230020), False, 1.0, True),
        (refused(230002), True, None, True),
        (refused(2200), False, None, True),
        (refused(987654), True, None, True),
        (Answer(500, {"code": 987654}), False, None, True),
        (SERVER_ERROR, False, None, True),
        (Answer(503, ""), False, None, True),
        (Answer(502, "<html>"), False, None, False),
        (Answer(504, ""), False, None, False),
        (Answer(404, "not found"), True, None, True),
        (Answer(429, "slow"), False, None, True),
        (Answer(200, "not json"), False, None, False),
        (Answer(200, []), False, None, False),
        (Answer(200, {"code": "0"}), False, None, False),
        (Answer(200, {"code": False}), False, None, False),
        (Answer(200, {"code": 0}), False, None, False),
        (Answer(200, {"code": 0, "data": {"message_id": ""}}), False, None, False),
        (CUT_BEFORE, False, None, False),
        (CUT_AFTER, False, None, False),
    ],
    ids=str,
)
def test_failure_says_whether_trying_again_helps(
    client: FeishuClient,
    feishu: FakeFeishu,
    fault: Answer | str,
    permanent: bool,
    retry_after_s: float | None,
    is_refusal: bool,
) -> None:
    feishu.trouble(SEND, fault)

    with pytest.raises(FeishuError) as raised:
        send(client)

    error = raised.value
    assert (error.permanent, error.retry_after_s, error.is_refusal) == (permanent, retry_after_s, is_refusal)


def test_call_had_no_effect_when_nobody_listens(app: Credentials, http: httpx.Client, tokens: MemoryTokens) -> None:
    with FakeFeishu() as gone:
        url = gone.url

    with pytest.raises(FeishuError, match=r"could not be reached \(ConnectError\)") as raised:
        send(FeishuClient(replace(app, api_url=url), http, tokens))

    assert raised.value.is_refusal
    assert not raised.value.permanent


@pytest.mark.parametrize("fault", [CUT_AFTER, Answer(502, ""), Answer(200, "?")], ids=str)
def test_call_had_no_effect_when_only_the_token_call_was_cut(
    client: FeishuClient, feishu: FakeFeishu, fault: Answer | str
) -> None:
    feishu.trouble(TOKEN, fault)

    with pytest.raises(FeishuError) as raised:
        send(client)

    assert raised.value.is_refusal
    assert not raised.value.permanent


@pytest.mark.parametrize("url", ["", "nonsense", "http://[", "ftp://127.0.0.1"])
def test_wrong_base_address_is_an_error_in_words(
    app: Credentials, http: httpx.Client, tokens: MemoryTokens, url: str
) -> None:
    with pytest.raises(FeishuError, match="could not be reached"):
        send(FeishuClient(replace(app, api_url=url), http, tokens))


def test_error_tells_an_admin_what_is_missing(client: FeishuClient, feishu: FakeFeishu) -> None:
    feishu.trouble("POST */cardkit/v1/cards", NO_CARD_SCOPE)

    with pytest.raises(FeishuError) as raised:
        client.create_card(cards.card("x", streaming=True))

    assert str(raised.value) == (
        "Feishu, create card: a permission scope is missing: grant it in Feishu's console and publish a version"
        " (code 99991672, Access denied. scopes required: [cardkit:card:write])"
    )


def test_no_secret_is_in_errors_or_logs(
    app: Credentials, http: httpx.Client, tokens: MemoryTokens, feishu: FakeFeishu, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(FeishuError) as raised:
        send(FeishuClient(replace(app, app_secret="wrong-secret"), http, tokens))
    feishu.trouble(SEND, SERVER_ERROR)
    client = FeishuClient(app, http, tokens)
    with pytest.raises(FeishuError) as raised_later:
        send(client)

    said = f"{raised.value!r} {raised.value} {raised_later.value} {caplog.text} {app!r}"
    assert raised.value.code == 10015
    for secret in ("wrong-secret", app.app_secret, *feishu.tokens):
        assert secret not in said


def test_message_id_cannot_leave_its_place_in_the_address(client: FeishuClient, feishu: FakeFeishu) -> None:
    client.reply_message("../../x?y#z", HELLO, "uuid-1")

    assert feishu.calls[-1] == "POST /open-apis/im/v1/messages/%2E%2E%2F%2E%2E%2Fx%3Fy%23z/reply"
