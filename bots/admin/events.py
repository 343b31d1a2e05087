"""What the audit log tells of one conversation, beside its transcript: for who may read the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse

from bots.models import Conversation, Message
from monitoring import marks
from monitoring.models import AuditLog

MOST_SHOWN: Final = 200


def beside(request: HttpRequest, conversation: Conversation, rows: Iterable[Message]) -> dict[str, Any]:
    """Entries of the conversation itself and of the messages shown, newest first."""
    if not request.user.has_perm("monitoring.view_auditlog"):
        return {}
    shown = {str(row.pk): row for row in rows}
    wanted = Q(target_type="bots.message", target_id__in=list(shown))
    wanted |= Q(target_type="bots.conversation", target_id=str(conversation.pk))
    entries = list(AuditLog.objects.filter(wanted)[:MOST_SHOWN])
    texts = {str(row.reply_to_id): row.text for row in shown.values() if row.reply_to_id}
    history = urlencode({"target": f"bots.conversation:{conversation.pk}"})
    return {
        "events": [{"entry": one, "is_altered": _is_altered(one, shown.get(one.target_id), texts)} for one in entries],
        "events_page": f"{reverse('admin:monitoring_auditlog_changelist')}?{history}",
    }


def _is_altered(entry: AuditLog, message: Message | None, answers: dict[str, str]) -> bool:
    """Whether what stands there is not what was said when the entry was written."""
    if entry.action != "message.answered" or message is None:
        return False
    asked, answered = entry.changes.get("question_mark"), entry.changes.get("answer_mark")
    answer = answers.get(entry.target_id)
    is_other_answer = bool(answered and answer is not None and answered != marks.of_content(answer))
    return bool(asked and asked != marks.of_content(message.text)) or is_other_answer
