"""The durable memory of one reply's delivery: integrations' Journal, kept in the DeliveryStep table.

What this holder wrote it also keeps, so that asking costs nothing. A newer holder's writes are noticed when it matters:
at ``intend`` (the row is there already) and by the fence at every change.
"""

from __future__ import annotations

import threading
from functools import partial
from uuid import UUID, uuid5

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from bots import connections, statements
from bots.errors import LeaseLost
from bots.models import DeliveryStep, Message
from integrations.base import Step
from monitoring import tracing

State = DeliveryStep.State


class DatabaseJournal:
    """Opened once by each worker that holds the reply. A new reply's row is written with its first intent."""

    def __init__(self, reply: Message) -> None:
        self.reply = reply
        self.guard = threading.RLock()  # who writes the reply's row: the flusher's first step, or the stored answer
        self.reply_id, self.fence = str(reply.pk), reply.holders
        self.is_ending = False  # then what is confirmed is written together with what comes next
        self._unwritten: list[str] = []
        is_new = reply._state.adding
        self._steps = {} if is_new else {row.name: row for row in DeliveryStep.objects.filter(message=reply)}

    def find(self, name: str) -> Step | None:
        row = self._steps.get(name)
        return _value(row) if row else None

    def intend(self, name: str) -> Step:
        row = self._steps.get(name)
        if row is None:
            row, is_new = self._first(name)
        else:
            is_new = row.state == State.REFUSED and self._again(row)
        self._steps[name] = row
        tracing.step(name)
        return _value(row, is_new=is_new)

    def _first(self, name: str) -> tuple[DeliveryStep, bool]:
        key = uuid5(self.reply.pk, name).hex
        row = DeliveryStep(message=self.reply, name=name, key=key, fence=self.fence, first_tried_at=timezone.now())
        try:
            connections.patiently(partial(self._insert, row)) if self._unwritten else self._insert(row)
        except IntegrityError:  # another holder was first
            return DeliveryStep.objects.get(message=self.reply, name=name), False
        return row, True

    def _insert(self, row: DeliveryStep) -> None:
        with self.guard:
            is_new = self.reply._state.adding
            if not (self._unwritten or is_new):
                return statements.insert(row)
            try:
                with transaction.atomic():
                    self.flush()
                    ensure_stored(self.reply)
                    statements.insert(row)
            except Exception:  # rolled back: Django would take the reply's row for stored
                self.reply._state.adding = is_new
                raise
        return None

    def _again(self, row: DeliveryStep) -> bool:
        """A refused call had no effect: it may be made anew, as if for the first time."""
        refused = self._rows(row.name).filter(state=State.REFUSED)  # of two holders only one begins anew
        row.state, row.first_tried_at, row.fence = State.INTENDED, timezone.now(), self.fence
        return bool(refused.update(state=row.state, first_tried_at=row.first_tried_at, fence=row.fence))

    def done(self, name: str, remote_id: str = "") -> None:
        self._settle(name, State.DONE, remote_id=remote_id)
        if not self.is_ending:
            self.save()

    def refused(self, name: str, reason: str) -> None:
        if name not in self._steps:
            self.intend(name)
        self._settle(name, State.REFUSED, reason=reason[:300])
        self.save()

    def save(self) -> None:
        """Write what is not written yet, now; a database that restarts is waited for."""
        if self._unwritten:
            connections.patiently(self.flush)

    def flush(self) -> None:
        """Write what is settled and not written yet; in a transaction it counts as written with the commit."""
        names = list(self._unwritten)
        for row in map(self._steps.__getitem__, names):
            mine = self._rows(row.name).filter(fence__lte=self.fence)  # a late holder changes nothing of a newer one's
            mine.update(state=row.state, finished_at=row.finished_at, remote_id=row.remote_id, reason=row.reason)
        if names:
            transaction.on_commit(lambda: self._unwritten.__delitem__(slice(len(names))))

    def _settle(self, name: str, state: State, remote_id: str = "", reason: str = "") -> None:
        row = self._steps[name]
        row.state, row.finished_at, row.reason = state, timezone.now(), reason
        row.remote_id = remote_id or row.remote_id
        self._unwritten.append(name)
        tracing.step("")

    def _rows(self, name: str) -> QuerySet[DeliveryStep]:
        return DeliveryStep.objects.filter(message_id=UUID(self.reply_id), name=name)


def held(reply: Message) -> Message:
    """Note that one more worker holds it."""
    Message.objects.filter(pk=reply.pk).update(holders=F("holders") + 1)
    reply.refresh_from_db(fields=["holders"])
    return reply


def ensure_stored(reply: Message) -> None:
    """Raises LeaseLost when another worker has begun a reply to the same question meanwhile."""
    if not reply._state.adding:
        return
    try:
        statements.insert(reply)
    except IntegrityError:
        raise LeaseLost("another worker began to reply") from None


def _value(row: DeliveryStep, *, is_new: bool = False) -> Step:
    return Step(
        name=row.name,
        key=row.key,
        state=row.state,  # type: ignore[arg-type]  # the column's choices are the literal's
        first_tried_at_s=row.first_tried_at.timestamp(),
        remote_id=row.remote_id,
        is_new=is_new,
    )
