"""The open reply: what the model writes, made visible at the platform's pace, then sent for good.

Knows adapters only by their interface. The engine's thread never waits for a platform here: a flusher of its own calls
``show`` with the newest text.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from bots import buttons, connections, statements, together
from bots.addressing import credentials_of, target_of
from bots.journal import DatabaseJournal
from bots.models import Bot, DeliveryStep, Endpoint, Message
from bots.spare_threads import SpareThreads
from bots.writing import write
from integrations.base import SIGN_STEPS, ReplyStream
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.registry import adapter_for
from integrations.values import NO_BUTTONS
from integrations.web import live
from monitoring import metrics, tracing
from monitoring.tracing import Work

logger = logging.getLogger(__name__)
Status = Message.Status
GIVE_UP_AFTER = timedelta(days=3)
LONGEST_WAIT_S = 300.0
_flushers = SpareThreads("flusher")
MOST_SENT_AGAIN = 2  # a gateway that delivers and never says so must not fill a chat


class OpenReply:
    """One reply under way. ``write`` never blocks; ``finish`` returns when the person can see the whole answer."""

    def __init__(self, question: Message, reply: Message) -> None:
        self.question, self.reply = question, reply
        self.journal = DatabaseJournal(reply)
        bot = question.conversation.bot
        self._stream = _stream(question, self.journal, bot)
        self._is_shown = question.platform == "web" or bot.reply_mode == Bot.ReplyMode.STREAM
        self._flusher: _Flusher | None = None
        self._carry = tracing.carrier()

    def begin(self) -> None:
        """Show that the bot is at work, where the platform has a sign for it; in the background."""
        self._carry = tracing.carrier()
        if self._stream.shows_typing and self._flusher is None:
            self._flusher = _Flusher(self._stream, self._carry)

    def write(self, text: str) -> None:
        """Show the whole text so far, now or soon."""
        if not self._is_shown or not text.strip():
            return
        if self._stream.interval_s == 0:
            self._stream.show(text)
            return
        if self._flusher is None:
            self._flusher = _Flusher(self._stream, self._carry)
        self._flusher.newest(text)

    def finish(self, text: str) -> None:
        """Raises PlatformError and OutcomeUnknown as ReplyStream.finish does."""
        self.close()
        self.journal.is_ending = True
        self._stream.finish(text)

    def close(self) -> None:
        """Stop showing; safe to call twice."""
        if self._flusher:
            self._flusher.stop()
            self._flusher = None
        self.journal.save()

    def end(self) -> None:
        """Stop showing, and take the sign of work away: whatever came of it."""
        self.close()
        self._stream.close()


def _stream(question: Message, journal: DatabaseJournal, bot: Bot) -> ReplyStream:
    streaming = bot.reply_mode == Bot.ReplyMode.STREAM
    pressable = buttons.of(journal.reply.pk) if streaming and question.platform != "web" else NO_BUTTONS
    return adapter_for(question.platform).open_reply(
        credentials_of(question), target_of(question), journal, streaming=streaming, buttons=pressable
    )


class _Flusher:
    """Shows the newest text, not more often than the platform likes, in a thread. Lost steps are repaired later."""

    def __init__(self, stream: ReplyStream, carry: Callable[[Work], Work]) -> None:
        self._stream, self._text, self._ended = stream, "", False
        self._wake = threading.Condition()
        self._ran = _flushers.start(carry(self._run))

    def newest(self, text: str) -> None:
        with self._wake:
            self._text = text
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._ran.wait()

    def _run(self) -> None:
        shown = ""
        self._begin()
        while (text := self._wait_for_more_than(shown)) is not None:
            pause_s = self._show(text)
            shown = text
            self._sleep(pause_s)

    def _begin(self) -> None:
        try:
            self._stream.begin()
        except PlatformError as error:
            logger.info("that the bot is at work was not shown", extra={"reason": str(error)})
        except Exception:  # a sign is not worth an answer
            logger.exception("that the bot is at work was not shown")

    def _wait_for_more_than(self, shown: str) -> str | None:
        with self._wake:
            self._wake.wait_for(lambda: self._ended or self._text != shown)
            return None if self._ended else self._text

    def _show(self, text: str) -> float:
        """Returns how long to wait before the next step."""
        try:
            self._stream.show(text)
        except PlatformError as error:
            logger.info("a step of a streamed reply was refused", extra={"reason": str(error)})
            return max(error.retry_after_s or 0.0, 2 * self._stream.interval_s)
        except Exception:  # a broken step must not end the live view; ``finish`` will tell
            logger.exception("a step of a streamed reply broke")
        return self._stream.interval_s

    def _sleep(self, pause_s: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._ended, timeout=pause_s)


def send(question: Message, open_reply: OpenReply) -> bool:
    """Make the stored answer visible for good and settle the question; False when it must be tried again later."""
    with tracing.span("deliver", platform=question.platform):
        is_settled = _send(question, open_reply)
        tracing.note(outcome=question.status)
    return is_settled


def _send(question: Message, open_reply: OpenReply) -> bool:
    started = time.monotonic()
    try:
        open_reply.finish(open_reply.reply.text)
    except OutcomeUnknown as error:
        open_reply.journal.save()
        if _sends_again(question):
            question.details["sent_again"] = question.details.get("sent_again", 0) + 1
            make_repeatable(open_reply.reply, "sent again, as the endpoint is set to")
            return postpone_or_fail(question, PlatformError(str(error)))
        settle(question, open_reply.reply, Status.UNCONFIRMED, str(error))
    except PlatformError as error:
        return postpone_or_fail(question, error)
    else:
        question.timings["deliver"] = round((time.monotonic() - started) * 1000)
        status = Status.FAILED if question.error else Status.DELIVERED
        # The person has the answer, and only this worker knows: a database that restarts is waited for.
        connections.patiently(partial(settle, question, open_reply.reply, status, question.error, open_reply.journal))
    finally:
        open_reply.journal.save()
    return True


def _sends_again(question: Message) -> bool:
    endpoint = question.conversation.endpoint
    is_wanted = endpoint is not None and endpoint.unconfirmed_policy == Endpoint.UnconfirmedPolicy.SEND_AGAIN
    return is_wanted and question.details.get("sent_again", 0) < MOST_SENT_AGAIN


def make_repeatable(reply: Message, reason: str) -> None:
    """Calls without a confirmed effect may be made anew: whoever decides so accepts that one may show twice."""
    unconfirmed = reply.steps.exclude(state=DeliveryStep.State.DONE)
    unconfirmed.update(state=DeliveryStep.State.REFUSED, reason=reason, finished_at=timezone.now())


def is_unseen(reply: Message) -> bool:
    """Whether surely nobody has seen anything of it; the sign that the bot is at work is nothing of it."""
    return not reply.steps.exclude(state=DeliveryStep.State.REFUSED).exclude(name__in=SIGN_STEPS).exists()


def postpone_or_fail(question: Message, error: PlatformError) -> bool:
    """Try again later, or never: True when the question is settled."""
    gives_up = error.permanent or timezone.now() - question.tried_since > GIVE_UP_AFTER
    if gives_up:
        settle(question, None, Status.FAILED, str(error))
        return True
    question.attempts += 1
    wait_s = error.retry_after_s or min(LONGEST_WAIT_S, 2.0 ** min(question.attempts, 8))
    postpone(question, wait_s * random.uniform(1.0, 1.3), str(error))  # noqa: S311  (jitter, no secret)
    return False


def postpone(question: Message, wait_s: float, reason: str) -> None:
    """Leave the question waiting; the sweeper rings again when its time has come."""
    question.next_attempt_at = timezone.now() + timedelta(seconds=wait_s)
    question.details["last_trouble"] = reason[:500]
    question.save(update_fields=["next_attempt_at", "attempts", "details"])
    logger.info("delivery will be tried again", extra={"message_id": str(question.pk), "wait_s": round(wait_s, 1)})


def settle(
    question: Message, reply: Message | None, status: str, error: str = "", journal: DatabaseJournal | None = None
) -> None:
    """Write the outcome of a question (and its reply, if it has one) and tell whoever follows it.

    Raises LeaseLost when another worker has settled it; what surely arrived wins over "nobody knows".
    """
    now = timezone.now()
    reply = reply or question.replies.filter(is_current=True).first()
    delivered_at = now if status == Status.DELIVERED else None
    total_ms = round((now - question.received_at).total_seconds() * 1000)
    changed: dict[str, Any] = {
        "status": status,
        "error": error[:500],
        "next_attempt_at": None,
        "delivered_at": delivered_at,
    }
    changed |= {"timings": question.timings | {"total": total_ms}, "attempts": question.attempts}
    allowed: tuple[str, ...] = (*Message.WAITING, Status.UNCONFIRMED) if delivered_at else Message.WAITING
    with transaction.atomic():
        if journal:
            journal.flush()
        write(question, changed | {"details": question.details}, allowed)
        if reply:
            reply.status, reply.delivered_at = Status(status), delivered_at
            changed = {"status": reply.status, "delivered_at": delivered_at}
            statements.update(Message, changed, {"id": reply.pk})
        together.settle(question)
    if question.platform == "web":
        live.settle(str(question.pk))
    _count(question)


def _count(question: Message) -> None:
    metrics.message(question.platform, question.conversation.bot.slug, question.status)
    for stage, milliseconds in question.timings.items():
        metrics.stage(stage, milliseconds / 1000)
    level = logging.WARNING if question.status in (Status.FAILED, Status.UNCONFIRMED) else logging.INFO
    fields = {"message_id": str(question.pk), "status": question.status, "reason": question.error}
    logger.log(level, "question settled", extra=fields)
