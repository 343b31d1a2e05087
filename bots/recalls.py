"""Messages that people take back: those that wait are not answered, also those that have not come yet.

A platform sends a message again that we could not take, perhaps after its recall. So an unknown message that is taken
back leaves a row in its place: when it comes, it is known as a repeat and not answered. The row is kept for a day.
"""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext

from bots import doorbell, turns
from bots.drafts import fitted
from bots.models import Conversation, Endpoint, Message
from bots.models.conversation import MessageQuerySet

KIND = "recalled"
KEPT_FOR = timedelta(days=1)


def recall(endpoint: Endpoint, message_id: str) -> None:
    """A message taken back before it is answered is not answered."""
    rows = _rows(endpoint, message_id)
    if not rows.exists():
        _take_its_place(endpoint, message_id)
    if turns.request_cancel(rows):  # also where it came in that very moment
        for conversation_id, queue in rows.values_list("conversation_id", "conversation__bot__model__queue"):
            doorbell.ring(conversation_id, queue)


def forget_old() -> None:
    endpoints = Endpoint.objects.values_list("bot_id", "pk")
    bots, sources = {bot_id for bot_id, _ in endpoints}, {pk.hex for _, pk in endpoints}
    kept_in = Conversation.objects.filter(bot__in=bots, source__in=sources, scope_key=KIND)  # by its index
    Message.objects.filter(conversation__in=kept_in, received_at__lt=timezone.now() - KEPT_FOR).delete()


def _rows(endpoint: Endpoint, message_id: str) -> MessageQuerySet:
    credential = endpoint.credential
    return Message.objects.filter(
        platform=credential.platform, app_id=credential.app_id, external_id=fitted(message_id, 200)
    )


def _take_its_place(endpoint: Endpoint, message_id: str) -> None:
    conversation, _ = Conversation.objects.get_or_create(
        bot=endpoint.bot,
        source=endpoint.pk.hex,
        scope_key=KIND,
        defaults={
            "endpoint": endpoint,
            "platform": endpoint.credential.platform,
            "user_name": gettext("recalled messages"),
        },
    )
    row = Message(
        conversation=conversation,
        role=Message.Role.USER,
        status=Message.Status.CANCELLED,
        platform=endpoint.credential.platform,
        app_id=endpoint.credential.app_id,
        external_id=fitted(message_id, 200),
        details={"kind": KIND},
    )
    Message.objects.bulk_create([row], ignore_conflicts=True)
