"""The groups a bot is in, how it behaves in each of them, and the welcome it says once.

Each group that differs from its bot has a row; ``Endpoint.chat_policies`` is a copy of those, so that the door, which
must not ask the database, knows them with the endpoint.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from bots import places, pushes
from bots.models import Bot, Chat, Conversation, Endpoint
from integrations.values import BotAdded, BotRemoved, ChatOpened

MOST_FOUND = 1_000


def added(endpoint: Endpoint, event: BotAdded) -> None:
    """Note the group, and greet it: once each time the bot comes, however often the platform tells."""
    given = {"left_at": None} | ({"name": event.chat_name[:200]} if event.chat_name else {})
    Chat.objects.update_or_create(endpoint=endpoint, chat_id=event.chat_id[:200], defaults=given)
    if endpoint.group_policy_of(event.chat_id, endpoint.bot) != Bot.GroupPolicy.SILENT:
        _welcome(endpoint, f"added:{event.chat_id}:{event.event_id}", chat_id=event.chat_id)


def removed(endpoint: Endpoint, event: BotRemoved) -> None:
    Chat.objects.filter(endpoint=endpoint, chat_id=event.chat_id[:200]).update(left_at=timezone.now())


def opened(endpoint: Endpoint, event: ChatOpened) -> None:
    """Greet a person who opens the chat for the first time; not one who has written before."""
    known = Conversation.objects.filter(endpoint=endpoint, scope_key=f"direct:{event.chat_id}")
    if not known.exists():
        _welcome(endpoint, f"opened:{event.chat_id}", chat_id=event.chat_id, is_direct=True)


def _welcome(endpoint: Endpoint, key: str, *, chat_id: str, is_direct: bool = False) -> None:
    text = endpoint.bot.welcome_text
    if text.strip():
        pushes.welcome(endpoint, text, chat_id=chat_id, key=key, is_direct=is_direct)


def find_new() -> int:
    """A row for each group in which somebody wrote to a bot, so that an admin finds it in the list."""
    listed = Chat.objects.filter(endpoint=OuterRef("endpoint"), chat_id=OuterRef("chat_id"))
    written = Conversation.objects.filter(~Exists(listed), chat_type="group", endpoint__isnull=False)
    places_ = written.exclude(chat_id="").order_by().values_list("endpoint_id", "chat_id").distinct()
    rows = [Chat(endpoint_id=endpoint_id, chat_id=chat_id) for endpoint_id, chat_id in places_[:MOST_FOUND]]
    Chat.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def publish(instance: Chat, **_: Any) -> None:
    """Receiver of the signals: copy the policies of the endpoint's groups to where the door finds them."""
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().filter(pk=instance.endpoint_id)
        current = list(endpoint.values_list("chat_policies", flat=True))  # locked: of two changes none is lost
        rows = Chat.objects.filter(endpoint_id=instance.endpoint_id).exclude(group_policy="")
        wanted = dict(rows.values_list("chat_id", "group_policy"))
        if current and current != [wanted]:
            endpoint.update(chat_policies=wanted)
            places.forget()


def register() -> None:
    post_save.connect(publish, sender=Chat, dispatch_uid="chats-saved")
    post_delete.connect(publish, sender=Chat, dispatch_uid="chats-deleted")
