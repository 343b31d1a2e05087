"""Another try by hand: for a question that failed, an answer that did not arrive, and a push."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from bots import delivery, discarding, doorbell, pushes
from bots.errors import BotError
from bots.models import Message
from bots.models.conversation import MessageQuerySet
from monitoring import audit

Status = Message.Status


class NotRetriable(BotError):
    """Only what failed, or was never confirmed, can be tried again. The text says what the message is instead."""


def retry(message: Message) -> Message:
    """Queue a failed or unconfirmed message again; for a reply, the question it answers. Raises NotRetriable.

    An answer that is complete is only sent again; without one, the model is asked again. What was discarded is put
    back first.
    """
    with transaction.atomic():
        row = discarding.locked(_leader(message))
        if row.status not in Message.DEAD:
            text = _("Only what failed or was not confirmed can be tried again, not: %s.")
            raise NotRetriable(text % row.get_status_display())
        _queue(row, _begin_again(row))
        for other in _others(row):  # they have no answer of their own: should they not share one now, each is asked
            _queue(other, Status.RECEIVED)
        transaction.on_commit(partial(_ring, row))
    return row


def try_of(message: Message) -> str:
    """Which try it belongs to: a reply to its question's, one of several with a common answer to the newest's."""
    return str(message.details.get("answered_with") or message.reply_to_id or message.pk)


def _leader(message: Message) -> Message:
    leaders = Message.objects.filter(pk=try_of(message), status__in=Message.DEAD)
    return leaders.defer("session_url").first() or message


def _others(row: Message) -> MessageQuerySet:
    """Those that got, or were to get, the same answer: they end with it again."""
    names = row.details.get("together", ())
    return Message.objects.select_for_update().filter(pk__in=names, status__in=Message.DEAD).defer("session_url")


def stored_answer(row: Message) -> Message | None:
    """What a retry sends again as it is: the push itself, or a question's complete answer. None: the model is asked."""
    reply = row if _is_push(row) else current_reply(row)
    is_complete = reply is not None and reply.answered_at is not None and reply.finish_reason != "error"
    return reply if is_complete else None


def current_reply(question: Message) -> Message | None:
    return question.replies.filter(is_current=True).defer("session_url").first()


def _begin_again(row: Message) -> Status:
    """Make way for the try; returns the state that it begins in."""
    if answer := stored_answer(row):
        _send_again(answer)
        return Status.ANSWERED
    if (apology := current_reply(row)) and apology.answered_at:  # it stays, and another answer takes its place
        apology.is_current = False
        apology.save(update_fields=["is_current"])
    return Status.RECEIVED


def _queue(row: Message, status: Status) -> None:
    if row.discarded_at:
        discarding.put_back(row)
    changes = {"status": {"before": row.status, "after": status}}
    _reset(row, status)
    audit.record("message.retried", target=row, target_label=f"{row.role} message", changes=changes)


def _send_again(reply: Message) -> None:
    """Calls without a confirmed effect may be made anew: whoever retries accepts that one may show twice."""
    delivery.make_repeatable(reply, "tried again by hand")
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
