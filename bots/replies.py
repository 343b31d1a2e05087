"""The row of a reply: found or begun, stored with what the model said, and who held it.

A first try begins without a row: it is written with the first intent to show something, or with the answer, whichever
comes first. So most answers cost one insert.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from bots import tools
from bots.answers import Answer
from bots.journal import DatabaseJournal, ensure_stored, held
from bots.models import Message
from bots.text import storable
from bots.writing import write

Status = Message.Status
USAGE_FIELDS = ("prompt_tokens", "completion_tokens", "finish_reason")


def reply_to(question: Message) -> Message:
    """The question's current reply, held once more: ``holders`` fences what this worker sends."""
    reply = None if _is_first_try(question) else question.replies.filter(is_current=True).first()
    return held(reply) if reply else _begun(question)


def _is_first_try(question: Message) -> bool:
    is_untouched = question.status == Status.RECEIVED and question.attempts == 0
    return is_untouched and "retried_at" not in question.details


def _begun(question: Message) -> Message:
    return Message(
        conversation=question.conversation,
        reply_to=question,
        role=Message.Role.ASSISTANT,
        status=Status.ANSWERING,
        platform=question.platform,
        holders=1,
    )


def store(question: Message, journal: DatabaseJournal, answer: Answer, *, settles: bool) -> None:
    """Keep what the model said; with ``settles`` the question counts as answered in the same transaction."""
    reply = journal.reply
    reply.text = storable(answer.text)
    reply.received_at = timezone.now()
    reply.answered_at = reply.received_at if settles else None
    reply.status = Status.ANSWERED
    _note_usage(reply, answer)
    if answer.model:
        reply.details = {**reply.details, **_asked(answer)}
    with journal.guard, transaction.atomic():
        if reply._state.adding:
            ensure_stored(reply)
        else:
            reply.save(update_fields=["text", "received_at", "answered_at", "status", "details", *USAGE_FIELDS])
        if settles:
            _store_answered(question, answer)


def _store_answered(question: Message, answer: Answer) -> None:
    _note_usage(question, answer)
    changed = {name: getattr(question, name) for name in USAGE_FIELDS}
    changed |= {"status": Status.ANSWERED, "error": answer.error[:500], "answered_at": timezone.now()}
    write(question, changed | {"timings": question.timings | answer.timings}, (Status.ANSWERING, Status.ANSWERED))


def _asked(answer: Answer) -> dict[str, object]:
    """Which model the tokens are of, which one failed before it, and what it asks the caller to do."""
    facts: dict[str, object] = {"model": answer.model}
    if answer.fallback_from:
        facts["fallback_from"] = answer.fallback_from
    if answer.tool_calls:
        facts["tool_calls"] = tools.kept(answer.tool_calls)
    return facts


def _note_usage(message: Message, answer: Answer) -> None:
    message.prompt_tokens, message.completion_tokens = answer.usage.prompt_tokens, answer.usage.completion_tokens
    message.finish_reason = answer.finish
