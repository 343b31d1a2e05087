"""A plain Django view that does the door's work: look up, verify, parse, store in its own transaction, ring."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from celery import current_app
from django.core.asgi import get_asgi_application
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

application = get_asgi_application()

from bots import doorbell, drafts
from bots.models import Conversation, Endpoint, Message
from clawdbot_site import celery
from integrations.registry import adapter_for
from integrations.values import IncomingMessage, WebhookRequest

celery.app.set_default()


@csrf_exempt
def callback(request: HttpRequest, platform: str, key: str) -> JsonResponse:
    endpoint = Endpoint.objects.live().with_key(key).select_related("bot__model", "credential").get()
    headers = {name.lower(): value for name, value in request.headers.items()}
    credentials = endpoint.credential.values()
    incoming = adapter_for(platform).receive(WebhookRequest(headers, request.body, time.time()), credentials)
    draft = drafts.draft(endpoint, incoming) if isinstance(incoming, IncomingMessage) else None
    if draft is None:
        return JsonResponse({"status": "ignored"})
    with transaction.atomic():
        conversation_id = _store(draft)
    current_app.send_task(doorbell.ANSWER, (str(conversation_id),), queue=draft.queue)
    return JsonResponse({})


def _store(draft: drafts.Draft) -> UUID:
    place = {"bot_id": draft.bot_id, "source": draft.source, "scope_key": draft.scope_key}
    person: dict[str, Any] = {"platform": draft.platform, "endpoint_id": draft.endpoint_id, "chat_id": draft.chat_id}
    conversation, _ = Conversation.objects.get_or_create(**place, defaults={**person, "user_id": draft.sender_id})
    Message.objects.get_or_create(
        platform=draft.platform,
        app_id=draft.app_id,
        external_id=draft.external_id,
        defaults={
            "conversation": conversation,
            "role": Message.Role.USER,
            "text": draft.text,
            "sender_id": draft.sender_id,
            "session_url": draft.session_url,
            "details": draft.details,
        },
    )
    return conversation.pk


urlpatterns = [path("webhooks/<str:platform>/<str:key>/", callback)]
