"""Where a message came from, and where its answer goes, as the plain values that adapters take."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bots.models import Endpoint, Message
from integrations.base import Credentials, ReplyTarget
from integrations.errors import PlatformError

NO_CREDENTIALS: Final = Credentials(id="", platform="web", app_id="", api_url="")


def credentials_of(question: Message) -> Credentials:
    endpoint = question.conversation.endpoint
    if endpoint is None and question.platform != "web":
        raise PlatformError("The endpoint of this conversation was deleted.", permanent=True)
    if endpoint is None:
        return NO_CREDENTIALS
    is_called = endpoint.mode == Endpoint.Mode.WEBHOOK
    return replace(endpoint.credential.values(), callback_url=endpoint.webhook_url if is_called else "")


def target_of(question: Message) -> ReplyTarget:
    if question.platform == "web":
        return ReplyTarget(chat_id="", chat_type="direct", message_id=str(question.pk))
    return ReplyTarget(**question.details["target"], webhook_url=question.session_url)
