"""A chosen item of the bot's menu: the person's command or question, without their having to write it."""

from __future__ import annotations

from bots import drafts
from bots.commands import menu_command
from bots.drafts import Draft
from bots.models import Conversation, Endpoint
from integrations.values import IncomingMessage, MenuClicked, ReplyTarget


def draft(endpoint: Endpoint, click: MenuClicked) -> Draft | None:
    """As if the person had written it in their direct chat with the bot."""
    incoming = IncomingMessage(
        message_id=f"menu:{click.event_id}" if click.event_id else "",
        text=menu_command(click.key) or click.key,
        sender_id=click.user_id,
        sender_name=click.user_name,
        target=ReplyTarget(chat_id=_chat_of(endpoint, click.user_id), chat_type="direct", sender_id=click.user_id),
        sent_at_s=click.sent_at_s,
    )
    return drafts.draft(endpoint, incoming)


def _chat_of(endpoint: Endpoint, user_id: str) -> str:
    """The event does not say: that in which the person has written to the bot; empty before they ever did."""
    theirs = Conversation.objects.filter(endpoint=endpoint, chat_type="direct", user_id=user_id).exclude(chat_id="")
    return theirs.order_by("-created_at").values_list("chat_id", flat=True).first() or ""
