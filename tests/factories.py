"""Rows for tests, without surprises: every value that a test relies on, it gives itself."""

from __future__ import annotations

import itertools
from typing import Any

from bots import drafts
from bots.models import Bot, Conversation, Endpoint, Message
from inference.models import LanguageModel
from integrations.models import GroupRobot, PlatformCredential
from integrations.values import IncomingMessage, Quoted, ReplyTarget

_number = itertools.count(1)


def model(**values: Any) -> LanguageModel:
    return LanguageModel.objects.create(**{"name": f"echo-{next(_number)}", "engine": "echo", **values})


def bot(**values: Any) -> Bot:
    number = next(_number)
    defaults = {"slug": f"bot-{number}", "name": f"Bot {number}", "reply_mode": "text", "ai_notice": ""}
    return Bot.objects.create(**{**defaults, **values, "model": values.get("model") or model()})


def credential(platform: str = "feishu", **values: Any) -> PlatformCredential:
    number = next(_number)
    defaults = {
        "name": f"App {number}",
        "platform": platform,
        "app_id": f"cli_{number}",
        "app_secret": f"app-secret-{number}",
        "verification_token": f"verification-token-{number}",
        "encrypt_key": f"encrypt-key-{number}",
    }
    return PlatformCredential.objects.create(**{**defaults, **values})


def group_robot(**values: Any) -> GroupRobot:
    number = next(_number)
    url = f"https://oapi.dingtalk.com/robot/send?access_token=robot-token-{number:08}"
    defaults = {"name": f"Group {number}", "platform": "dingtalk", "webhook_url": url, "signing_secret": "SECrobot"}
    return GroupRobot.objects.create(**{**defaults, **values})


def endpoint(**values: Any) -> Endpoint:
    given = {**values, "bot": values.get("bot") or bot(), "credential": values.get("credential") or credential()}
    return Endpoint.objects.create(**given)


def incoming(text: str = "Hello", *, chat_id: str = "oc_1", sender_id: str = "ou_1", **values: Any) -> IncomingMessage:
    message_id = values.pop("message_id", None) or f"om_{next(_number)}"
    chat_type = values.pop("chat_type", "direct")
    thread_id = values.pop("thread_id", "")
    target = values.pop("target", None) or ReplyTarget(
        chat_id=chat_id, chat_type=chat_type, message_id=message_id, sender_id=sender_id, thread_id=thread_id
    )
    return IncomingMessage(message_id=message_id, text=text, sender_id=sender_id, target=target, **values)


def draft(place: Endpoint | None = None, text: str = "Hello", **values: Any) -> drafts.Draft:
    made = drafts.draft(place or endpoint(), incoming(text, **values))
    assert made is not None
    return made


def web_question(asked: Bot | None = None, text: str = "Hello", **values: Any) -> Message:
    """A stored question of the web, not yet answered."""
    given = asked or bot()
    scope_key = values.pop("scope_key", f"call:{next(_number)}")
    conversation, _ = Conversation.objects.get_or_create(
        bot=given, source="web", scope_key=scope_key, defaults={"platform": "web"}
    )
    return Message.objects.create(
        conversation=conversation, role="user", platform="web", app_id=given.pk.hex, text=text, **values
    )


def quoted(message_id: str, text: str, sender_name: str = "") -> Quoted:
    return Quoted(message_id, text, sender_name=sender_name, is_complete=True)
