"""One conversation's turns, worked off in order under its lease. The one place that decides what happens next."""

from __future__ import annotations

import logging
import random
from uuid import UUID

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from bots import answering, delivery, doorbell, leases, limits, notices, places, replies, together
from bots.delivery import OpenReply
from bots.errors import LeaseLost
from bots.journal import held
from bots.leases import Lease
from bots.models import Bot, Message
from bots.models.conversation import MessageQuerySet
from bots.sentences import say
from bots.writing import write
from inference.errors import QueueFull
from integrations.errors import PlatformError
from integrations.mentions import resolve
from integrations.registry import adapter_for
from integrations.values import Mention
from monitoring import tracing

logger = logging.getLogger(__name__)
Status = Message.Status
READ_AHEAD = 20  # as many as may be answered together


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
    """Settle question after question; returns the one that must wait, or None when nothing was left at a look."""
    while waiting := _waiting(lease):
        lease.check()
        if _is_superseded(waiting):
            reason = "not answered in time; a later message got the apology"
            delivery.settle(waiting[0], None, Status.FAILED, reason)
            continue
        question = _next(waiting)
        if question.next_attempt_at and question.next_attempt_at > timezone.now():
            return question
        if not (may_answer or question.status == Status.ANSWERED or notices.needs_no_model(question)):
            return question
        with tracing.of_message(question.pk, question.conversation_id, question.details):
            is_settled = _turn(question, lease)
        if not is_settled:
            return question
        if len(waiting) == 1:
            return None  # the caller looks once more after the release
    return None


def _waiting(lease: Lease) -> list[Message]:
    """The next questions, in order."""
    waiting = Message.objects.waiting().filter(conversation_id=lease.conversation_id)
    found = list(waiting.select_related("conversation")[:READ_AHEAD])
    for message in found:
        places.attach(message.conversation)
    return found


def _next(waiting: list[Message]) -> Message:
    first = waiting[0]
    is_grouped = first.conversation.bot.answers_together and first.platform != "web"
    return together.lead(waiting) if is_grouped else first


def _is_superseded(waiting: list[Message]) -> bool:
    """Too late, and so is the person's next one: of several old messages only the last one gets the apology."""
    first, *later = waiting
    if first.platform == "web" or not later or first.sender_id != later[0].sender_id:
        return False
    return all(_will_be_too_late(message) for message in (first, later[0]))


def _will_be_too_late(question: Message) -> bool:
    is_question = question.details.get("kind") == "text" and question.details.get("is_addressed") is True
    is_waiting = question.status == Status.RECEIVED and not question.cancel_requested_at
    return is_question and is_waiting and notices.is_too_late(question)


def _is_due(conversation_id: UUID) -> bool:
    return Message.objects.due(timezone.now()).filter(conversation_id=conversation_id).exists()


def _turn(question: Message, lease: Lease) -> bool:
    """Bring one question to its end; False when it has to wait."""
    if question.cancel_requested_at and _may_be_cancelled(question):
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
        delivery.postpone(question, (error.retry_after_s or 1.0) * random.uniform(1, 2), str(error))  # noqa: S311  (jitter)
        return False
    except (DatabaseError, InterfaceError, LeaseLost):
        raise
    except Exception as error:  # the outermost loop: one broken turn must not block its conversation for ever
        logger.exception("a turn broke", extra={"message_id": str(question.pk)})
        return delivery.postpone_or_fail(question, PlatformError(f"unexpected {type(error).__name__}"))


def _may_be_cancelled(question: Message) -> bool:
    """Also a complete answer, as long as surely nobody has seen anything of it."""
    if question.status != Status.ANSWERED:
        return True
    reply = question.replies.filter(is_current=True).first()
    return question.platform != "web" and reply is not None and delivery.is_unseen(reply)


def _cancelled(question: Message) -> bool:
    """Taken back before an answer was complete. A card that already shows something is closed."""
    reply = question.replies.filter(is_current=True).first()
    if reply and not delivery.is_unseen(reply):
        _close(question, reply, OpenReply(question, held(reply)))
    delivery.settle(question, reply, Status.CANCELLED)
    return True


def _close(question: Message, reply: Message, open_reply: OpenReply) -> None:
    """End what is visible of a cancelled answer."""
    reply.text = reply.text or say("stopped")
    reply.save(update_fields=["text"])
    try:
        open_reply.finish(reply.text)
    except PlatformError as error:
        question.details["last_trouble"] = str(error)[:500]
    finally:
        open_reply.close()


def _is_for_us(question: Message) -> bool:
    """Settle whether a group message names the bot, where that could not be told at the door."""
    details = question.details
    conversation, endpoint = question.conversation, question.conversation.endpoint
    policy = endpoint.group_policy_of(conversation.chat_id, conversation.bot) if endpoint else ""
    takes_all = policy == Bot.GroupPolicy.ALL
    if (is_addressed := details.get("is_addressed", True)) is not None:
        return takes_all or bool(is_addressed)
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
    reply = replies.reply_to(question)
    open_reply = OpenReply(question, reply)
    try:
        if question.status != Status.ANSWERED:
            _begin(question)
            with tracing.span("answer", bot=question.conversation.bot.slug, attempt=question.attempts):
                _answer(question, reply, open_reply, lease)
        elif notices.is_too_late(question) and delivery.is_unseen(reply):
            replies.store(question, open_reply.journal, notices.too_late(), settles=True)
        lease.check()
        if question.status == Status.CANCELLED:
            return True
        return delivery.send(question, open_reply)
    finally:
        open_reply.end()


def _answer(question: Message, reply: Message, open_reply: OpenReply, lease: Lease) -> None:
    answer = notices.notice(question)
    if answer is None:
        limits.wait_for_turn(question)
        open_reply.begin()
        answer = answering.answer(question, lease, open_reply.write)
    lease.check()
    is_cut = answer.finish in ("cancelled", "shutdown")
    replies.store(question, open_reply.journal, answer, settles=not is_cut)
    if is_cut:
        _interrupted(question, reply, open_reply)


def _begin(question: Message) -> None:
    question.timings["queue"] = answering.queue_ms(question)
    queue = question.conversation.bot.model.queue
    tracing.past("wait in queue", question.tried_since, queue=queue, attempt=question.attempts + 1)
    changed = {"status": Status.ANSWERING, "attempts": question.attempts + 1, "timings": question.timings}
    write(question, changed, (Status.RECEIVED, Status.ANSWERING))


def _interrupted(question: Message, reply: Message, open_reply: OpenReply) -> None:
    """The person stopped or took back the question. The web shows what was written so far; a platform nothing new."""
    open_reply.close()
    question.refresh_from_db(fields=["cancel_requested_at"])
    if question.cancel_requested_at is None:
        raise LeaseLost("the answer was cut although nobody cancelled it")
    if question.platform == "web" or not delivery.is_unseen(reply):
        _close(question, reply, open_reply)
    delivery.settle(question, reply, Status.CANCELLED)


def request_cancel(messages: MessageQuerySet) -> int:
    """Ask that these stop being answered; the holder's watcher sees it within a second."""
    return messages.waiting().update(cancel_requested_at=timezone.now())
