"""What is said without asking the model: not allowed, commands, limits, too late, too busy, cannot read this."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from bots import access, commands, limits
from bots.answering import failed
from bots.answers import Answer
from bots.models import Message
from bots.sentences import say

MOST_ATTEMPTS = 10  # a message that keeps killing its worker is given up


def notice(question: Message) -> Answer | None:
    """The answer to give instead of the model's, or None. Raises PlatformError where only the platform can tell."""
    bot, kind = question.conversation.bot, question.details.get("kind")
    if question.attempts > MOST_ATTEMPTS:
        return failed(bot.model, f"given up after {MOST_ATTEMPTS} attempts that did not end")
    if kind != "busy" and access.is_refused(question):
        question.details["is_refused"] = True  # written when the question is settled
        return Answer(say("not_allowed"), "stop")
    if kind == "command":
        return Answer(commands.carry_out(question), "stop")
    if is_too_late(question):
        return too_late()
    if kind in ("unsupported", "busy"):
        return Answer(say(kind), "stop")
    refused = limits.refusal(question)
    return Answer(say(refused), "stop") if refused else None


def needs_no_model(question: Message) -> bool:
    """Whether any worker may answer it, also one without models."""
    return bool(question.details.get("kind") == "busy")


def is_too_late(question: Message) -> bool:
    limit = timedelta(seconds=question.conversation.bot.too_late_after_s)
    return timezone.now() - question.tried_since > limit


def too_late() -> Answer:
    return Answer(say("too_late"), "error", error="not answered in time")
