"""Where a message came from, and where its answer goes, as the plain values that adapters take."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from bots import places
from bots.models import Message
from integrations.errors import PlatformError
from integrations.values import Credentials, ReplyTarget

TARGET_FIELDS: Final = {field.name for field in fields(ReplyTarget)}  # what a newer version stored besides is left
NO_CREDENTIALS: Final = Credentials(id="", platform="web", app_id="", api_url="")


def credentials_of(question: Message) -> Credentials:
    if question.platform == "web":
        return NO_CREDENTIALS
    endpoint_id = question.conversation.endpoint_id
    place = places.of(endpoint_id) if endpoint_id else None
    if place is None:
        raise PlatformError("The endpoint of this conversation was deleted.", permanent=True)
    return place.credentials


def target_of(question: Message) -> ReplyTarget:
    if question.platform == "web":
        return ReplyTarget(chat_id="", chat_type="direct", message_id=str(question.pk))
    kept = {name: value for name, value in question.details["target"].items() if name in TARGET_FIELDS}
    return ReplyTarget(**kept, webhook_url=question.session_url)
