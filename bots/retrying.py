"""Another try by hand: for a question that failed, an answer that did not arrive, and a push."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from bots import doorbell, pushes
from bots.errors import BotError
from bots.models import DeliveryStep, Message
from monitoring import audit

Status = Message.Status
RETRIABLE = (Status.FAILED, Status.UNCONFIRMED)


class NotRetriable(BotError):
    """Only what failed, or was never confirmed, can be tried again. The text says what the message is instead."""


def retry(message: Message) -> Message:
    """Queue a failed or unconfirmed message again; for a reply, the question it answers. Raises NotRetriable.

    An answer that is complete is only sent again; without one, the model is asked again.
    """
    with transaction.atomic():
        row = _locked(message.reply_to_id or message.pk)
        if row.status not in RETRIABLE:
            raise NotRetriable(_("Only what failed or was not confirmed can be tried again, not: %s.") % row.status)
        before = row.status
        _begin_again(row)
        changes = {"status": {"before": before, "after": row.status}}
        audit.record("message.retried", target=row, target_label=f"{row.role} message", changes=changes)
        transaction.on_commit(partial(_ring, row))
    return row


def _locked(pk: UUID) -> Message:
    return Message.objects.select_for_update(of=("self",)).select_related("conversation__bot__model").get(pk=pk)


def _begin_again(row: Message) -> None:
    reply = row if _is_push(row) else row.replies.filter(is_current=True).first()
    is_answered = reply is not None and reply.answered_at is not None and reply.finish_reason != "error"
    if reply and is_answered:
        _send_again(reply)
    elif reply and reply.answered_at:  # an apology: it stays in the record, and another answer takes its place
        reply.is_current = False
        reply.save(update_fields=["is_current"])
    _reset(row, Status.ANSWERED if is_answered else Status.RECEIVED)


def _send_again(reply: Message) -> None:
    """Calls without a confirmed effect may be made anew: whoever retries accepts that one may show twice."""
    unconfirmed = reply.steps.exclude(state=DeliveryStep.State.DONE)
    unconfirmed.update(state=DeliveryStep.State.REFUSED, reason="tried again by hand", finished_at=timezone.now())
    reply.status, reply.delivered_at = Status.ANSWERED, None
    reply.save(update_fields=["status", "delivered_at"])


def _reset(row: Message, status: Status) -> None:
    """``received_at`` stays, for the order; what is counted from it (too late, giving up) begins at ``retried_at``."""
    changed: dict[str, Any] = {"status": status, "error": "", "attempts": 0, "delivered_at": None}
    changed |= {"next_attempt_at": None, "cancel_requested_at": None}
    if status == Status.RECEIVED:
        changed |= {"answered_at": None, "finish_reason": ""}
    changed["details"] = row.details | {"retried_at": timezone.now().isoformat()}
    for name, value in changed.items():
        setattr(row, name, value)
    row.save(update_fields=list(changed))


def _is_push(row: Message) -> bool:
    return row.role == Message.Role.ASSISTANT


def _ring(row: Message) -> None:
    if _is_push(row):
        pushes.ring(row)
    else:
        needs_answer = row.status != Status.ANSWERED
        doorbell.ring(row.conversation_id, row.conversation.bot.model.queue, needs_answer=needs_answer)
