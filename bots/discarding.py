"""Discarding what failed, by hand: a message that nobody will try again. It stays in the record and can come back."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from bots.errors import BotError
from bots.models import Message
from monitoring import audit


class NotDiscardable(BotError):
    """Only a dead letter can be discarded, and only what was discarded comes back. The text says what it is instead."""


def discard(message: Message) -> Message:
    """Take a dead letter off the list; for a reply, the question it answers. Raises NotDiscardable."""
    with transaction.atomic():
        row = locked(message)
        if row.status not in Message.DEAD or row.discarded_at:
            raise NotDiscardable(_("Only what failed or was not confirmed can be discarded, not: %s.") % _state(row))
        _set_discarded(row, is_discarded=True)
    return row


def restore(message: Message) -> Message:
    """Make what was discarded a dead letter again; for a reply, the question it answers. Raises NotDiscardable."""
    with transaction.atomic():
        row = locked(message)
        if row.discarded_at is None:
            raise NotDiscardable(_("Only what was discarded can be put back, not: %s.") % _state(row))
        put_back(row)
    return row


def put_back(row: Message) -> None:
    """For who holds the row's lock."""
    _set_discarded(row, is_discarded=False)


def locked(message: Message) -> Message:
    """The row that stands for the whole try (of a reply, its question), locked until the transaction ends."""
    pk: UUID = message.reply_to_id or message.pk
    return Message.objects.select_for_update(of=("self",)).select_related("conversation__bot__model").get(pk=pk)


def _set_discarded(row: Message, *, is_discarded: bool) -> None:
    before, row.discarded_at = row.discarded_at, timezone.now() if is_discarded else None
    row.save(update_fields=["discarded_at"])
    changes = {"discarded_at": {"before": _moment(before), "after": _moment(row.discarded_at)}}
    action = "message.discarded" if is_discarded else "message.restored"
    audit.record(action, target=row, target_label=f"{row.role} message", changes=changes)


def _moment(at: object) -> str | None:
    return str(at) if at else None


def _state(row: Message) -> str:
    return _("discarded") if row.discarded_at else row.get_status_display()
