"""Pushes: what the bot says without having been asked. Stored first, then sent like any answer.

A push is a Message with role ``assistant`` and no ``reply_to``, in a conversation of its own for each place it goes to.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone

from bots import delivery, doorbell, leases
from bots.addressing import credentials_of, target_of
from bots.drafts import fitted
from bots.errors import LeaseLost
from bots.journal import DatabaseJournal, held
from bots.models import Conversation, Endpoint, Message
from bots.models.conversation import MessageQuerySet
from bots.text import storable
from integrations.errors import PlatformError
from integrations.registry import adapter_for
from integrations.values import ReplyTarget
from monitoring import audit, tracing

logger = logging.getLogger(__name__)
LONGEST_KEY = 128


# -- taking one --


def accept(
    endpoint: Endpoint, text: str, *, chat_id: str = "", user_id: str = "", key: str = "", is_markdown: bool = True
) -> Message:
    """Store a text for a chat or a person, durably, and ring. The same ``key`` twice is one push, the first."""
    target = ReplyTarget(chat_id=chat_id, chat_type="group" if chat_id else "direct", sender_id=user_id)
    name = f"push:{endpoint.pk.hex}:{key}" if key else ""
    with transaction.atomic():
        push, is_new = _store(endpoint, target, storable(text), name, is_markdown=is_markdown)
        if is_new:
            audit.record("message.pushed", target=push, target_label=f"push: {endpoint}")
            transaction.on_commit(partial(ring, push))
    return push


def welcome(endpoint: Endpoint, text: str, *, chat_id: str, key: str, is_direct: bool) -> None:
    """Say a bot's welcome in a chat, once for each ``key``. Nobody asked for it by name: no audit entry."""
    target = ReplyTarget(chat_id=chat_id, chat_type="direct" if is_direct else "group")
    with transaction.atomic():
        name = fitted(f"welcome:{endpoint.pk.hex}:{key}", 200)
        push, is_new = _store(endpoint, target, storable(text), name, is_markdown=True)
        if is_new:
            transaction.on_commit(partial(ring, push))


def ring(push: Message) -> None:
    doorbell.ring(push.conversation_id, "delivery", needs_answer=False)


def _store(endpoint: Endpoint, target: ReplyTarget, text: str, name: str, *, is_markdown: bool) -> tuple[Message, bool]:
    values = _values(endpoint, target, text, is_markdown=is_markdown)
    trace = tracing.storing(values["details"])
    push, is_new = _made(values, name)
    if trace:
        trace.done(push.pk, push.conversation_id, is_new=is_new)
    return push, is_new


def _made(values: dict[str, Any], name: str) -> tuple[Message, bool]:
    if not name:
        return Message.objects.create(**values), True
    return Message.objects.get_or_create(
        platform=values.pop("platform"),
        app_id=values.pop("app_id"),
        external_id=name,
        defaults=values,
    )


def _values(endpoint: Endpoint, target: ReplyTarget, text: str, *, is_markdown: bool) -> dict[str, Any]:
    now = timezone.now()
    return {
        "conversation": _conversation(endpoint, target),
        "role": Message.Role.ASSISTANT,
        "status": Message.Status.ANSWERED,
        "text": text,
        "platform": endpoint.credential.platform,
        "app_id": endpoint.credential.app_id,
        "details": {"kind": "push", "target": target.without_secret(), "is_markdown": is_markdown},
        "received_at": now,
        "answered_at": now,
    }


def _conversation(endpoint: Endpoint, target: ReplyTarget) -> Conversation:
    where = f"chat:{target.chat_id}" if target.chat_id else f"user:{target.sender_id}"
    conversation, _ = Conversation.objects.get_or_create(
        bot=endpoint.bot,
        source=endpoint.pk.hex,
        scope_key=f"push:{where}",
        defaults={
            "endpoint": endpoint,
            "platform": endpoint.credential.platform,
            "chat_type": target.chat_type,
            "chat_id": target.chat_id,
            "user_id": target.sender_id,
        },
    )
    return conversation


# -- sending them --


def work(conversation_id: UUID) -> None:
    """Send what waits in one conversation, oldest first, under its lease; then look once more, as turns.work does."""
    while True:
        with leases.hold(conversation_id) as lease:
            if lease is None:
                return
            try:
                is_empty = _work_off(lease)
            except LeaseLost:
                return
        if not is_empty or not waiting().filter(conversation_id=conversation_id).exists():
            return


def _work_off(lease: leases.Lease) -> bool:
    """Send push after push; False when one has to wait."""
    while (push := _oldest(lease.conversation_id)) is not None:
        lease.check()
        if push.next_attempt_at and push.next_attempt_at > timezone.now():
            return False
        with tracing.of_message(push.pk, push.conversation_id, push.details):
            is_settled = _send(push)
        if not is_settled:
            return False
    return True


def _send(push: Message) -> bool:
    try:
        return delivery.send(push, OpenPush(push))
    except (DatabaseError, InterfaceError, LeaseLost):
        raise
    except Exception as error:  # the outermost loop: one broken push must not block those behind it for ever
        logger.exception("a push broke", extra={"message_id": str(push.pk)})
        return delivery.postpone_or_fail(push, PlatformError(f"unexpected {type(error).__name__}"))


def waiting() -> MessageQuerySet:
    """Pushes not sent yet, in the order in which they must be."""
    rows = Message.objects.filter(standing=Message.Standing.PUSH)
    return rows.order_by("received_at", "id")


def _oldest(conversation_id: UUID) -> Message | None:
    related = "conversation__bot", "conversation__endpoint__credential"
    return waiting().filter(conversation_id=conversation_id).select_related(*related).first()


class OpenPush(delivery.OpenReply):
    """A push on its way: it is its own question and reply, and nothing of it is shown before it is complete."""

    def __init__(self, push: Message) -> None:
        self.question = self.reply = held(push)
        self.journal = DatabaseJournal(push)

    def finish(self, text: str) -> None:
        """Raises PlatformError and OutcomeUnknown."""
        credentials, target = credentials_of(self.reply), target_of(self.reply)
        self.journal.is_ending = True
        is_markdown = self.reply.details.get("is_markdown", True)
        adapter_for(self.reply.platform).push(credentials, target, text, self.journal, is_markdown=is_markdown)
