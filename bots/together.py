"""One answer for several messages that a person sent while the bot was still busy (a setting of the bot).

The newest of them is the one that is answered; it names the others, and they end as it ends. The group is fixed in one
transaction before the model is asked, so a worker that takes over after a crash answers the same group.
"""

from __future__ import annotations

from itertools import takewhile

from django.db import transaction

from bots.models import Message
from bots.models.conversation import MessageQuerySet

Status = Message.Status


def lead(waiting: list[Message]) -> Message:
    """Of the waiting messages of one conversation, in order: the one to answer now."""
    first = waiting[0]
    if name := first.details.get("answered_with"):
        return next((m for m in waiting if str(m.pk) == name), first)
    group = list(takewhile(lambda m: _may_share(m, first), waiting))
    return _join(group) if len(group) > 1 else first


def _may_share(message: Message, first: Message) -> bool:
    details = message.details
    is_plain = details.get("kind") == "text" and details.get("is_addressed") is True and not details.get("together")
    is_fresh = message.status == Status.RECEIVED and not message.attempts and not message.cancel_requested_at
    return is_plain and is_fresh and message.sender_id == first.sender_id


def _join(group: list[Message]) -> Message:
    *others, last = group
    last.details["together"] = [str(m.pk) for m in others]
    for message in others:
        message.details["answered_with"] = str(last.pk)
    with transaction.atomic():
        Message.objects.bulk_update(group, ["details"])
    return last


def group_of(question: Message) -> list[Message]:
    """The messages that are answered now, in order; the question is the last. Those taken back are none of them."""
    if not (names := question.details.get("together")):
        return [question]
    others = Message.objects.filter(pk__in=names, cancel_requested_at__isnull=True).order_by("received_at", "id")
    return [*others.select_related("conversation__bot", "conversation__endpoint__credential"), question]


def settle(question: Message) -> None:
    """Inside the transaction that settles the question: the others of its group end as it does.

    Where the newest was taken back, the others were not: they wait for an answer of their own.
    """
    if not (names := question.details.get("together")):
        return
    others = Message.objects.waiting().order_by().filter(pk__in=names)
    others.filter(cancel_requested_at__isnull=False).update(status=Status.CANCELLED)
    if question.status == Status.CANCELLED:
        _part(others)
        return
    others.update(
        status=question.status,
        error=question.error,
        answered_at=question.answered_at,
        delivered_at=question.delivered_at,
    )


def _part(others: MessageQuerySet) -> None:
    for message in others:
        del message.details["answered_with"]
        message.save(update_fields=["details"])
