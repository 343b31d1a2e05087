"""The durable memory of one reply's delivery: integrations' Journal, kept in the DeliveryStep table."""

from __future__ import annotations

from uuid import UUID, uuid5

from django.db.models import F, QuerySet
from django.utils import timezone

from bots.models import DeliveryStep, Message
from integrations.base import Step


class DatabaseJournal:
    """Opened once by each worker that holds the reply; ``fence`` counts them."""

    def __init__(self, reply: Message) -> None:
        Message.objects.filter(pk=reply.pk).update(holders=F("holders") + 1)
        reply.refresh_from_db(fields=["holders"])
        self.reply_id, self.fence = str(reply.pk), reply.holders

    def find(self, name: str) -> Step | None:
        row = self._rows(name).first()
        return _value(row) if row else None

    def intend(self, name: str) -> Step:
        row, is_new = DeliveryStep.objects.get_or_create(
            message_id=UUID(self.reply_id),
            name=name,
            defaults={
                "key": uuid5(UUID(self.reply_id), name).hex,
                "fence": self.fence,
                "first_tried_at": timezone.now(),
            },
        )
        if row.state == DeliveryStep.State.REFUSED:
            is_new = bool(self._again(row))
        return _value(row, is_new=is_new)

    def _again(self, row: DeliveryStep) -> int:
        """A refused call had no effect: it may be made anew, as if for the first time."""
        refused = self._rows(row.name).filter(state=DeliveryStep.State.REFUSED)  # of two holders only one begins anew
        row.state, row.first_tried_at, row.fence = DeliveryStep.State.INTENDED, timezone.now(), self.fence
        return refused.update(state=row.state, first_tried_at=row.first_tried_at, fence=row.fence)

    def done(self, name: str, remote_id: str = "") -> None:
        self._settle(name, DeliveryStep.State.DONE, remote_id=remote_id)

    def refused(self, name: str, reason: str) -> None:
        if self.find(name) is None:
            self.intend(name)
        self._settle(name, DeliveryStep.State.REFUSED, reason=reason[:300])

    def _settle(self, name: str, state: str, **values: str) -> int:
        mine = self._rows(name).filter(fence__lte=self.fence)  # a late holder changes nothing of a newer one's
        return mine.update(state=state, finished_at=timezone.now(), **values)

    def _rows(self, name: str) -> QuerySet[DeliveryStep]:
        return DeliveryStep.objects.filter(message_id=self.reply_id, name=name)


def _value(row: DeliveryStep, *, is_new: bool = False) -> Step:
    return Step(
        name=row.name,
        key=row.key,
        state=row.state,  # type: ignore[arg-type]  # the column's choices are the literal's
        first_tried_at_s=row.first_tried_at.timestamp(),
        remote_id=row.remote_id,
        is_new=is_new,
    )
