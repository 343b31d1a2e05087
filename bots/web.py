"""Questions that come from the web: browsers, API clients, the OpenAI endpoint. Same intake, same answer, same end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone

from bots import commands, turns
from bots.drafts import Draft
from bots.models import Bot, Conversation, Message
from bots.text import storable
from monitoring.ids import uuid7

SOURCE = "web"


def draft(
    bot: Bot,
    text: str,
    *,
    scope_key: str,
    sender_id: str,
    sender_name: str = "",
    own_id: str = "",
    details: dict[str, Any] | None = None,
) -> Draft:
    """``own_id`` is the caller's id of the message within its scope: the same one twice is one question."""
    return Draft(
        bot_id=bot.pk,
        queue=bot.model.queue,
        most_waiting=bot.max_waiting,
        platform=Conversation.Platform.WEB,
        source=SOURCE,
        scope_key=scope_key,
        text=storable(text),
        app_id=bot.pk.hex,
        external_id=f"{scope_key}/{own_id}"[:200] if own_id else "",
        sender_id=sender_id,
        sender_name=sender_name,
        details=details or {},
    )


def new_scope() -> str:
    """A conversation of its own."""
    return f"call:{uuid7().hex}"


def stop(conversation: Conversation) -> int:
    """Stop what is being answered or waits in a conversation."""
    return turns.request_cancel(conversation.messages.all())


def stop_message(message_id: UUID) -> int:
    return turns.request_cancel(Message.objects.filter(pk=message_id))


def forget(conversation: Conversation) -> None:
    """What was said before is no longer part of the context; the rows stay."""
    stop(conversation)
    commands.forget(conversation, timezone.now())
