"""Where the buttons of a card report to, and cards that a worker left open."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from integrations.base import ReplyStream
from integrations.dingtalk.adapter import DingTalkAdapter
from integrations.dingtalk.crypto import card_secret
from integrations.errors import PlatformError
from integrations.values import NO_BUTTONS, Button, Buttons, Credentials, ReplyTarget
from tests.integrations.doubles import MemoryJournal, MemoryTokens

from .fake_dingtalk import CREATE, REGISTER, STREAM, FakeDingTalk

BUTTONS = Buttons(stop=Button("Stop", "v1"))
URL = "https://bots.example.com/webhooks/dingtalk/key/"


@pytest.fixture
def adapter(http: httpx.Client, tokens: MemoryTokens) -> DingTalkAdapter:
    return DingTalkAdapter(http, tokens)


def answer(adapter: DingTalkAdapter, app: Credentials, target: ReplyTarget, buttons: Buttons = BUTTONS) -> None:
    adapter.open_reply(app, target, MemoryJournal(), streaming=True, buttons=buttons).finish("answer")


def created(dingtalk: FakeDingTalk) -> list[tuple[str, str | None]]:
    bodies = (body for path, body in dingtalk.calls if path == CREATE)
    return [(body["callbackType"], body.get("callbackRouteKey")) for body in bodies]


def test_buttons_report_to_our_address_which_is_registered_once_a_day(
    adapter: DingTalkAdapter,
    credentials: Credentials,
    dingtalk: FakeDingTalk,
    direct: ReplyTarget,
    tokens: MemoryTokens,
) -> None:
    app = replace(credentials, callback_url=URL)
    answer(adapter, app, direct)
    dingtalk.cards.clear()
    answer(adapter, app, direct)

    assert created(dingtalk) == [("HTTP", "clawdbot")] * 2
    secret = card_secret(dingtalk.app_secret)
    assert dingtalk.routes == {
        "clawdbot": {
            "callbackRouteKey": "clawdbot", "callbackUrl": URL, "apiSecret": secret, "forceUpdate": True
        }
    }  # fmt: skip
    assert dingtalk.count(REGISTER) == 1
    assert 86_400 in tokens.ttls_s


def test_buttons_are_registered_anew_when_the_address_or_the_secret_changed(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    for url in (URL, f"{URL}2"):
        answer(adapter, replace(credentials, callback_url=url), direct)
        dingtalk.cards.clear()
    dingtalk.app_secret = "rotated"
    answer(adapter, replace(credentials, callback_url=URL, app_secret="rotated"), direct)
    assert dingtalk.count(REGISTER) == 3


def test_buttons_report_by_the_long_connection_when_the_app_has_one(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    answer(adapter, credentials, direct)
    assert created(dingtalk) == [("STREAM", None)]
    assert dingtalk.count(REGISTER) == 0


def test_nothing_is_registered_when_nobody_waits_for_buttons(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    answer(adapter, replace(credentials, callback_url=URL), direct, NO_BUTTONS)
    assert (created(dingtalk), dingtalk.count(REGISTER)) == ([("STREAM", None)], 0)


def test_answer_comes_all_the_same_when_the_address_is_refused(
    adapter: DingTalkAdapter,
    credentials: Credentials,
    dingtalk: FakeDingTalk,
    direct: ReplyTarget,
    tokens: MemoryTokens,
) -> None:
    dingtalk.fail(REGISTER, (404, {"code": "InvalidAction.NotFound", "message": "no"}))
    app = replace(credentials, callback_url=URL)
    answer(adapter, app, direct)
    dingtalk.cards.clear()
    answer(adapter, app, direct)
    assert created(dingtalk) == [("STREAM", None)] * 2
    assert dingtalk.count(REGISTER) == 1
    assert 600 in tokens.ttls_s  # then it is tried again


# -- cards that were left open --------------------------------------------------------------------------------------


@pytest.fixture
def left_open(
    adapter: DingTalkAdapter, credentials: Credentials, direct: ReplyTarget, journal: MemoryJournal
) -> ReplyStream:
    """The reply of another worker's card, which nobody will finish."""
    adapter.open_reply(credentials, direct, journal, streaming=True).show("half an answer")
    return adapter.open_reply(credentials, direct, journal, streaming=False)


def test_card_that_was_left_open_ends_as_failed(
    left_open: ReplyStream, dingtalk: FakeDingTalk, journal: MemoryJournal
) -> None:
    left_open.abandon("")
    left_open.abandon("")

    [card] = dingtalk.cards.values()
    assert (card.ends, card.texts) == (["failed"], ["half an answer", ""])
    assert journal.states == {"card": "done", "finished": "done"}
    assert dingtalk.oddities == []


def test_card_that_was_left_open_says_why_when_told(left_open: ReplyStream, dingtalk: FakeDingTalk) -> None:
    left_open.abandon("Something went wrong.")
    [card] = dingtalk.cards.values()
    assert (card.ends, card.texts[-1]) == (["failed"], "Something went wrong.")


def test_card_that_is_gone_is_let_go(left_open: ReplyStream, dingtalk: FakeDingTalk, journal: MemoryJournal) -> None:
    dingtalk.cards.clear()
    left_open.abandon("")
    assert journal.states["finished"] == "refused"


def test_card_is_tried_again_when_dingtalk_was_busy(
    left_open: ReplyStream, dingtalk: FakeDingTalk, journal: MemoryJournal
) -> None:
    dingtalk.fail(STREAM, (500, {"code": "system.busy", "message": "x"}))
    with pytest.raises(PlatformError) as caught:
        left_open.abandon("")
    assert not caught.value.permanent
    left_open.abandon("")
    assert journal.states["finished"] == "done"


def test_nothing_is_called_when_nothing_is_open(
    adapter: DingTalkAdapter, credentials: Credentials, dingtalk: FakeDingTalk, direct: ReplyTarget
) -> None:
    finished = MemoryJournal()
    adapter.open_reply(credentials, direct, finished, streaming=True).finish("answer")
    calls = len(dingtalk.calls)
    for journal in (finished, MemoryJournal()):
        adapter.open_reply(credentials, direct, journal, streaming=True).abandon("x")
    assert len(dingtalk.calls) == calls
