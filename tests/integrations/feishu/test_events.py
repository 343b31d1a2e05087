"""From an authentic payload to a value."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from integrations.errors import PayloadError
from integrations.feishu.events import parse
from integrations.feishu.opening import open_request
from integrations.mentions import resolve
from integrations.values import (
    BotAdded,
    BotRemoved,
    CardAction,
    ChatOpened,
    Ignored,
    Inbound,
    IncomingMessage,
    MenuClicked,
    Reaction,
    Recalled,
    WebhookRequest,
)

from .conftest import CLOCK, credentials, vectors
from .payloads import BOT

PERSON, CHAT = "ou_user000000000000000000000000001", "oc_chat00000000000000000000000001"
OTHERS: dict[str, Inbound] = {
    "v1-04-": Ignored("event app_ticket"),
    "card-0": Ignored("button that is not ours"),
    "evt-01": Ignored("event im.message.message_read_v1"),
    "evt-03": Reaction("om_msg00000000000000000000000001", PERSON, "up"),
    "evt-04": Ignored("reaction without a vote"),
    "evt-06": BotAdded(CHAT, "evt0000000000000000000000004105", "测试群", PERSON),
}


@pytest.mark.parametrize("vector", vectors("http_request"))
def test_event_is_understood_as_the_vector_says(vector: dict[str, Any]) -> None:
    expect = vector["expect"].get("event")
    if not expect:
        return
    own = credentials(**vector["input"]["config"], allow_unsigned=True, own_id=BOT)
    headers = {name.lower(): value for name, value in vector["input"]["headers"].items()}
    payload = open_request(WebhookRequest(headers, base64.b64decode(vector["input"]["body_base64"]), CLOCK), own)
    assert isinstance(payload, dict)

    parsed = parse(payload, own)

    if expect["event_type"] not in ("im.message.receive_v1", "message"):
        assert parsed == OTHERS[vector["id"][:6]]
        return
    assert isinstance(parsed, IncomingMessage)
    assert f"message_id:{parsed.message_id}" == expect["dedupe_key"]
    assert parsed.sender_id == expect["sender_open_id"]
    assert parsed.tenant_id == expect["tenant_key"]
    assert (parsed.target.chat_id, parsed.target.thread_id) == (expect["chat_id"], expect.get("thread_id") or "")
    assert parsed.target.chat_type == {"p2p": "direct", "group": "group"}[expect["chat_type"]]
    text, is_mentioned = resolve(parsed.text, parsed.mentions, BOT)
    assert (is_mentioned or (parsed.is_addressed and expect["schema"] == "1.0")) is expect["mentions_bot"]
    if "text" in expect:
        assert text == expect["text"]
    if expect.get("mentions_all"):
        assert [m.id for m in parsed.mentions] == ["all"]
        assert parsed.is_addressed is False


IDS = {"open_id": "ou_1", "union_id": "on_1", "user_id": None}


def event(kind: str, **body: Any) -> dict[str, Any]:
    return {"schema": "2.0", "header": {"event_type": kind, "event_id": "evt_1"}, "event": body}


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (
            event("im.chat.member.bot.added_v1", chat_id="oc_1", operator_id=IDS, name="Team", external=False),
            BotAdded("oc_1", "evt_1", "Team", "ou_1"),
        ),
        (event("im.chat.member.bot.added_v1", chat_id="oc_1"), BotAdded("oc_1", "evt_1")),
        (event("im.chat.member.bot.deleted_v1", chat_id="oc_1", operator_id=IDS), BotRemoved("oc_1")),
        (event("im.chat.disbanded_v1", chat_id="oc_1"), BotRemoved("oc_1")),
        (
            event("im.chat.access_event.bot_p2p_chat_entered_v1", chat_id="oc_1", operator_id=IDS),
            ChatOpened("oc_1", "ou_1"),
        ),
        (
            event(
                "application.bot.menu_v6",
                operator={"operator_name": "Ann", "operator_id": IDS},
                event_key="/new",
                timestamp=1790000000,
            ),
            MenuClicked("/new", "ou_1", "evt_1", "Ann", 1790000000.0),
        ),
        (
            event(
                "im.message.reaction.created_v1",
                message_id="om_1",
                reaction_type={"emoji_type": "ThumbsDown"},
                operator_type="user",
                user_id=IDS,
            ),
            Reaction("om_1", "ou_1", "down"),
        ),
        (
            event(
                "im.message.reaction.deleted_v1",
                message_id="om_1",
                reaction_type={"emoji_type": "THUMBSUP"},
                operator_type="user",
                user_id=IDS,
            ),
            Reaction("om_1", "ou_1", "up", is_removed=True),
        ),
        (
            event(
                "im.message.reaction.created_v1",
                message_id="om_1",
                reaction_type={"emoji_type": "SMILE"},
                operator_type="user",
                user_id=IDS,
            ),
            Ignored("reaction without a vote"),
        ),
        (
            event(
                "card.action.trigger",
                operator={"open_id": "ou_1"},
                action={"tag": "button", "value": {"clawdbot": "stop:1"}},
                context={"open_message_id": "om_1", "open_chat_id": "oc_1"},
            ),
            CardAction("ou_1", "stop:1", chat_id="oc_1"),
        ),
        (
            event("card.action.trigger", operator={"open_id": "ou_1"}, action={"value": {"act": "x"}}),
            Ignored("button that is not ours"),
        ),
        (event("card.action.trigger", action={"value": "text"}), Ignored("button that is not ours")),
        (event("card.action.trigger", action=None), Ignored("button that is not ours")),
    ],
)
def test_what_is_told_besides_messages_becomes_a_value(payload: dict[str, Any], value: Inbound) -> None:
    assert parse(payload, credentials()) == value


@pytest.mark.parametrize(
    "payload",
    [
        event("im.chat.member.bot.added_v1"),
        event("im.chat.member.bot.deleted_v1", chat_id=5),
        event("im.chat.access_event.bot_p2p_chat_entered_v1", chat_id="oc_1"),
        event("application.bot.menu_v6", event_key="/new"),
        event("card.action.trigger", action={"value": {"clawdbot": "stop:1"}}),
    ],
)
def test_event_without_what_it_is_about_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError, match="the event has no"):
        parse(payload, credentials())


def test_recall_names_its_message() -> None:
    payload = {"schema": "2.0", "header": {"event_type": "im.message.recalled_v1"}, "event": {"message_id": "om_9"}}

    assert parse(payload, credentials()) == Recalled("om_9")


@pytest.mark.parametrize("payload", [{}, {"schema": "2.0"}, {"schema": 5, "header": [], "event": "x"}, {"event": {}}])
def test_event_without_a_type_is_ignored(payload: dict[str, Any]) -> None:
    assert parse(payload, credentials()) == Ignored("event without a type")
