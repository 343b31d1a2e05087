"""Into the audit log: what bots did. One entry for each question that came to its end, and for each push.

Read from the settled messages in batches, by the scheduler: the message path itself pays nothing for it, and a worker
that dies between settling and recording loses nothing. A cursor stands at what was read; what is not settled when the
cursor goes by is remembered and looked at again. An entry's id follows from the message and how it ended, so that
reading a message twice writes it once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from bots.models import Message
from monitoring import audit, marks
from monitoring.context import Actor
from monitoring.models import AuditCursor, AuditLog

Status = Message.Status
NAME: Final = "bots.recording"
LAG: Final = timedelta(seconds=60)  # so late may a message be committed after the time that it bears
NEWEST: Final = timedelta(seconds=20)  # twice the pause between two looks
WHOLE_EVERY_S: Final = 45.0
MOST: Final = 2_000  # messages of one run
BUDGET_S: Final = 5.0
MOST_PASSED_OVER: Final = 10_000
SETTLED: Final = (Status.DELIVERED, Status.UNCONFIRMED, Status.FAILED, Status.CANCELLED)
QUESTION_OR_PUSH: Final = Q(role=Message.Role.USER) | Q(reply_to__isnull=True)
BRIEF: Final = ("id", "status", "received_at", "details__retried_at")
Brief = tuple[UUID, str, datetime, str | None]


def catch_up(budget_s: float = BUDGET_S) -> None:
    """For the scheduler: mostly a look at what came last, which is nearly all; every WHOLE_EVERY_S at everything."""
    end, is_whole = time.monotonic() + budget_s, _whole_look.is_due()
    while run(newest=None if is_whole else NEWEST) >= MOST // 2 and time.monotonic() < end:
        is_whole = True


def run(*, newest: timedelta | None = None) -> int:
    """Write what is not written yet (of the ``newest`` only, if given); returns how many entries. One at a time."""
    with transaction.atomic():
        cursor = _cursor()
        if cursor is None:
            return 0
        since = max(cursor.position, timezone.now() - newest) if newest else cursor.position
        fresh = list(_candidates().filter(received_at__gte=since).order_by("received_at", "id")[:MOST])
        is_whole = since == cursor.position
        older = [*_briefs(cursor.passed_over), *_briefs(_retried_since(cursor.position))] if is_whole else []
        written = _write({_event_id(one): one[0] for one in (*fresh, *older) if one[1] in SETTLED})
        if is_whole:
            _advance(cursor, fresh, older)
    return written


class _WholeLook:
    """When this process last looked at everything."""

    def __init__(self) -> None:
        self._next_s = float("-inf")

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + WHOLE_EVERY_S
        return True


_whole_look = _WholeLook()


def _cursor() -> AuditCursor | None:
    """The cursor, held; None when another process has it. A new site begins with what it has."""
    AuditCursor.objects.get_or_create(name=NAME, defaults={"position": timezone.now() - timedelta(days=1)})
    return AuditCursor.objects.select_for_update(skip_locked=True).filter(name=NAME).first()


def _candidates() -> Any:
    return Message.objects.filter(QUESTION_OR_PUSH).exclude(status=Status.IGNORED).values_list(*BRIEF)


def _briefs(ids: Sequence[str]) -> Iterator[Brief]:
    for begin in range(0, len(ids), MOST):
        yield from _candidates().filter(pk__in=ids[begin : begin + MOST]).order_by()


def _retried_since(position: datetime) -> list[str]:
    """What people tried again lies behind the cursor; their own entries tell of it."""
    retried = AuditLog.objects.filter(action="message.retried", created_at__gte=position).order_by()
    return list(retried.values_list("target_id", flat=True)[:MOST])


def _advance(cursor: AuditCursor, fresh: list[Brief], older: list[Brief]) -> None:
    """To what was read, but not so far that a message could still be committed behind it."""
    latest = timezone.now() - LAG
    limit = min(latest, fresh[-1][2]) if len(fresh) == MOST else latest
    behind = [one for one in fresh if one[2] < limit]
    unsettled = {str(one[0]) for one in (*behind, *older) if one[1] not in SETTLED}
    if len(unsettled) > MOST_PASSED_OVER:
        return  # the cursor waits: more is read again, nothing is forgotten
    cursor.position, cursor.passed_over = max(limit, cursor.position), sorted(unsettled)
    cursor.save()


def _event_id(one: Brief) -> UUID:
    """Of version 7 with the message's time, the rest a digest of what happened."""
    pk, status, _received_at, retried_at = one
    digest = hashlib.sha256(f"{pk}|{status}|{retried_at or ''}".encode()).digest()
    raw = bytearray(pk.bytes[:6] + digest[:10])
    raw[6], raw[8] = 0x70 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    return UUID(bytes=bytes(raw))


def _write(events: dict[UUID, UUID]) -> int:
    """``events``: id of the entry -> id of the message."""
    known = set(AuditLog.objects.filter(pk__in=events).order_by().values_list("pk", flat=True))
    wanted = {message: entry for entry, message in events.items() if entry not in known}
    rows = Message.objects.filter(pk__in=wanted).select_related("conversation__bot").defer("session_url")
    replies = {reply.reply_to_id: reply for reply in _replies(wanted)}
    audit.record_many(_entry(wanted[row.pk], row, replies.get(row.pk)) for row in rows.order_by("id"))
    return len(wanted)


def _replies(questions: Iterable[UUID]) -> Iterator[Message]:
    rows = Message.objects.filter(reply_to__in=list(questions), is_current=True)
    yield from rows.only("id", "reply_to_id", "text", "completion_tokens").order_by()


def _entry(pk: UUID, row: Message, reply: Message | None) -> AuditLog:
    is_push = row.role == Message.Role.ASSISTANT
    bot = row.conversation.bot
    said = row if is_push else reply
    facts = {
        "status": row.status,
        "platform": row.platform,
        "conversation": row.conversation_id,
        "sender": row.sender_id,
        "question_mark": "" if is_push else marks.of_content(row.text),
        "answer_mark": marks.of_content(said.text) if said else "",
        "reply": reply.pk if reply else row.details.get("answered_with", ""),
        "completion_tokens": said.completion_tokens if said else 0,
        "received_at": row.received_at,
        "delivered_at": row.delivered_at,
    }
    return audit.entry(
        "push.sent" if is_push else "message.answered",
        pk=pk,
        actor=Actor("system", str(bot.pk), bot.slug),
        target=row,
        target_label=f"{row.role} message",
        changes=facts,
        outcome="failure" if row.status in Message.DEAD else "success",
        reason=row.error,
    )
