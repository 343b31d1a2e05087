"""One conversation's turns, worked off in order under its lease. The one place that decides what happens next."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone

from bots import answering, delivery, doorbell, leases, limits
from bots.delivery import OpenReply
from bots.errors import LeaseLost
from bots.leases import Lease
from bots.models import Bot, Message
from bots.models.conversation import MessageQuerySet
from bots.text import storable
from inference.errors import QueueFull
from integrations.base import Mention
from integrations.errors import PlatformError
from integrations.mentions import resolve
from integrations.registry import adapter_for

logger = logging.getLogger(__name__)
Status = Message.Status
MOST_ATTEMPTS = 10  # a message that keeps killing its worker is given up
SWEEP_AGE_S = 2.0
SWEEP_MOST = 500
USAGE_FIELDS = ("prompt_tokens", "completion_tokens", "finish_reason")


def work(conversation_id: UUID, *, may_answer: bool) -> None:
    """Claim, work off, release; then look once more, so that no doorbell is lost while the claim was held."""
    while True:
        with leases.hold(conversation_id) as lease:
            if lease is None:
                return
            try:
                stopped_at = _work_off(lease, may_answer)
            except LeaseLost:
                return
        if stopped_at is None and _is_due(conversation_id):
            continue
        if stopped_at is not None and stopped_at.status != Status.ANSWERED and not may_answer:
            doorbell.ring(conversation_id, stopped_at.conversation.bot.model.queue)
        return


def _work_off(lease: Lease, may_answer: bool) -> Message | None:
    """Settle question after question; returns the one that must wait, or None when nothing is left."""
    while (question := _oldest(lease.conversation_id)) is not None:
        lease.check()
        if question.next_attempt_at and question.next_attempt_at > timezone.now():
            return question
        if question.status != Status.ANSWERED and not may_answer:
            return question
        if not _turn(question, lease):
            return question
    return None


def _oldest(conversation_id: UUID) -> Message | None:
    waiting = Message.objects.waiting().filter(conversation_id=conversation_id)
    related = "conversation__bot__model", "conversation__endpoint__credential"
    return waiting.select_related(*related).first()


def _is_due(conversation_id: UUID) -> bool:
    return Message.objects.due(timezone.now()).filter(conversation_id=conversation_id).exists()


def _turn(question: Message, lease: Lease) -> bool:
    """Bring one question to its end; False when it has to wait."""
    if question.cancel_requested_at and question.status != Status.ANSWERED:
        return _cancelled(question)
    try:
        if question.status != Status.ANSWERED and not _is_for_us(question):
            delivery.settle(question, None, Status.IGNORED)
            return True
        return _answer_and_send(question, lease)
    except PlatformError as error:
        return delivery.postpone_or_fail(question, error)
    except QueueFull as error:
        question.attempts -= 1  # standing in line is no attempt; the bot's "too late" ends it
        delivery.postpone(question, (error.retry_after_s or 1.0) * random.uniform(1, 2), str(error))  # noqa: S311
        return False
    except (DatabaseError, InterfaceError, LeaseLost):
        raise
    except Exception as error:  # the outermost loop: one broken turn must not block its conversation for ever
        logger.exception("a turn broke", extra={"message_id": str(question.pk)})
        return delivery.postpone_or_fail(question, PlatformError(f"unexpected {type(error).__name__}"))


def _cancelled(question: Message) -> bool:
    """Taken back before an answer was complete. A card that already shows something is closed."""
    reply = question.replies.filter(is_current=True).first()
    if reply and reply.steps.exists():
        open_reply = OpenReply(question, reply)
        reply.text = reply.text or answering.say("stopped")
        reply.save(update_fields=["text"])
        try:
            open_reply.finish(reply.text)
        except PlatformError as error:
            question.details["last_trouble"] = str(error)[:500]
    delivery.settle(question, reply, Status.CANCELLED)
    return True


def _is_for_us(question: Message) -> bool:
    """Settle whether a group message names the bot, where that could not be told at the door."""
    details = question.details
    takes_all = question.conversation.bot.group_policy == Bot.GroupPolicy.ALL
    if (is_addressed := details.get("is_addressed", True)) is not None:
        return takes_all or bool(is_addressed)
    endpoint = question.conversation.endpoint
    if endpoint is None:
        return False
    credential = endpoint.credential
    if not credential.own_id:
        credential.own_id = adapter_for(question.platform).fetch_own_id(credential.values())
        credential.save(update_fields=["own_id"])
    mentions = [Mention(**m) for m in details.get("mentions", [])]
    question.text, details["is_addressed"] = resolve(question.text, mentions, credential.own_id)
    question.save(update_fields=["text", "details"])
    return takes_all or bool(details["is_addressed"])


def _answer_and_send(question: Message, lease: Lease) -> bool:
    reply = _reply_row(question)
    open_reply = OpenReply(question, reply)
    try:
        if question.status != Status.ANSWERED:
            _answer(question, reply, open_reply, lease)
        lease.check()
        if question.status == Status.CANCELLED:
            return True
        return delivery.send(question, open_reply)
    finally:
        open_reply.close()


def _reply_row(question: Message) -> Message:
    reply, _ = Message.objects.get_or_create(
        reply_to=question,
        is_current=True,
        defaults={
            "conversation_id": question.conversation_id,
            "role": Message.Role.ASSISTANT,
            "status": Status.ANSWERING,
            "platform": question.platform,
        },
    )
    return reply


def _answer(question: Message, reply: Message, open_reply: OpenReply, lease: Lease) -> None:
    _begin(question)
    answer = _notice(question) or answering.answer(question, lease, open_reply.write)
    lease.check()
    is_cut = answer.finish in ("cancelled", "shutdown")
    with transaction.atomic():
        _store_reply(reply, answer)
        if not is_cut:
            _store_answered(question, answer)
    if is_cut:
        _interrupted(question, reply, open_reply)


def _store_reply(reply: Message, answer: answering.Answer) -> None:
    reply.text = storable(answer.text)
    reply.received_at = reply.answered_at = timezone.now()
    reply.status = Status.ANSWERED
    _note_usage(reply, answer)
    reply.save(update_fields=["text", "received_at", "answered_at", "status", *USAGE_FIELDS])


def _store_answered(question: Message, answer: answering.Answer) -> None:
    question.status, question.error, question.answered_at = Status.ANSWERED, answer.error[:500], timezone.now()
    question.timings |= answer.timings
    _note_usage(question, answer)
    question.save(update_fields=["status", "error", "answered_at", "timings", *USAGE_FIELDS])


def _note_usage(message: Message, answer: answering.Answer) -> None:
    message.prompt_tokens, message.completion_tokens = answer.usage.prompt_tokens, answer.usage.completion_tokens
    message.finish_reason = answer.finish


def _begin(question: Message) -> None:
    question.status, question.attempts = Status.ANSWERING, question.attempts + 1
    question.timings["queue"] = answering.queue_ms(question)
    question.save(update_fields=["status", "attempts", "timings"])


def _notice(question: Message) -> answering.Answer | None:
    """What is said without asking the model."""
    bot = question.conversation.bot
    if question.attempts > MOST_ATTEMPTS:
        return answering.failed(bot, f"given up after {MOST_ATTEMPTS} attempts that did not end")
    if timezone.now() - question.tried_since > timedelta(seconds=bot.too_late_after_s):
        return answering.Answer(answering.say("too_late"), "error", error="not answered in time")
    if question.details.get("kind") == "unsupported":
        return answering.Answer(answering.say("unsupported"), "stop")
    refused = limits.refusal(question)
    return answering.Answer(answering.say(refused), "stop") if refused else None


def _interrupted(question: Message, reply: Message, open_reply: OpenReply) -> None:
    """The person stopped or took back the question. The web shows what was written so far; a platform nothing new."""
    open_reply.close()
    question.refresh_from_db(fields=["cancel_requested_at"])
    if question.cancel_requested_at is None:
        raise LeaseLost("the answer was cut although nobody cancelled it")
    if question.platform == "web" or reply.steps.exists():
        reply.text = reply.text or answering.say("stopped")
        reply.save(update_fields=["text"])
        open_reply.finish(reply.text)
    delivery.settle(question, reply, Status.CANCELLED)


def unattended() -> Iterator[tuple[UUID, str, bool]]:
    """(conversation, queue, needs an answer) of what is due and held by nobody."""
    now = timezone.now()
    free = Q(conversation__lease_until__isnull=True) | Q(conversation__lease_until__lt=Now())
    in_backoff = Message.objects.waiting().filter(conversation=OuterRef("conversation"), next_attempt_at__gt=now)
    overdue = Q(received_at__lt=now - timedelta(seconds=SWEEP_AGE_S))
    rows = (
        Message.objects.due(now)
        .filter(free, overdue, ~Exists(in_backoff))  # those behind a postponed one wait for it
        .values_list("conversation_id", "conversation__bot__model__queue", "status")
    )
    seen: set[UUID] = set()
    for conversation_id, queue, status in rows[:SWEEP_MOST]:
        if conversation_id not in seen:
            seen.add(conversation_id)
            yield conversation_id, queue, status != Status.ANSWERED


def request_cancel(messages: MessageQuerySet) -> int:
    """Ask that these stop being answered; the holder's watcher sees it within a second."""
    return messages.waiting().update(cancel_requested_at=timezone.now())
