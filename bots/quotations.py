"""The message that a question answers to: what it said, where the platform does not send it along.

What we know ourselves is not asked for: a person's message by its id, the bot's own answer by the id it was sent under.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from bots.addressing import credentials_of, target_of
from bots.models import Conversation, DeliveryStep, Message
from bots.text import storable
from integrations.errors import PlatformError
from integrations.registry import adapter_for
from integrations.values import Quoted

logger = logging.getLogger(__name__)
MOST_CHARS = 20_000


def complete(message: Message) -> None:
    """Fill in what the quoted message says; it is kept with the message. What cannot be told stays empty."""
    quoted = message.details.get("quoted")
    if not quoted or quoted.get("is_complete"):
        return
    quoted_id = quoted["message_id"]
    is_forward = quoted_id == message.external_id  # what is forwarded in it, which the platform does not send along
    found = (None if is_forward else _known(message, quoted_id)) or _fetched(message, quoted_id)
    message.details["quoted"] = _values(found) if found else quoted | {"is_complete": True}
    message.save(update_fields=["details"])


def _values(found: Quoted) -> dict[str, Any]:
    return asdict(found) | {"text": storable(found.text)[:MOST_CHARS], "is_complete": True}


def _known(message: Message, quoted_id: str) -> Quoted | None:
    """Said in the same chat: nobody hears by an id what was said elsewhere."""
    place = {"endpoint": message.conversation.endpoint_id, "chat_id": message.conversation.chat_id}
    here = Conversation.objects.filter(**place)
    asked = Message.objects.filter(platform=message.platform, app_id=message.app_id, external_id=quoted_id)
    if (row := asked.filter(conversation__in=here).exclude(text="").first()) and not row.details.get("attachments"):
        return Quoted(quoted_id, row.text, is_complete=True)
    steps = DeliveryStep.objects.filter(remote_id=quoted_id, message__conversation__in=here)
    if step := steps.select_related("message").first():
        return Quoted(quoted_id, step.message.text, is_own=True, is_complete=True)
    return None


def _fetched(message: Message, quoted_id: str) -> Quoted | None:
    """The answer does without it where the platform does not tell."""
    credentials, target = credentials_of(message), target_of(message)
    try:
        return adapter_for(message.platform).fetch_quoted(credentials, quoted_id, target)
    except PlatformError as error:
        logger.info("a quoted message could not be read", extra={"reason": str(error)})
        return None
