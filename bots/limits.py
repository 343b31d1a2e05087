"""How much one person may ask of one bot. Counted from the messages themselves: nothing to keep in step."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Sum
from django.utils import timezone

from bots.models import Message


def refusal(question: Message) -> str | None:
    """The name of the sentence to answer with (answering.say), or None when the person may ask."""
    bot = question.conversation.bot
    if not question.sender_id:
        return None
    mine = Message.objects.filter(sender_id=question.sender_id, conversation__bot=bot)
    mine = mine.filter(received_at__lte=question.received_at)
    minute = question.received_at - timedelta(minutes=1)
    if bot.rate_limit_per_user_per_minute:
        recent = mine.filter(received_at__gt=minute)[: bot.rate_limit_per_user_per_minute + 1].count()
        if recent > bot.rate_limit_per_user_per_minute:
            return "too_many"
    if bot.daily_tokens_per_user:
        today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        used = mine.filter(received_at__gte=today).aggregate(n=Sum(F("prompt_tokens") + F("completion_tokens")))["n"]
        if (used or 0) >= bot.daily_tokens_per_user:
            return "too_much_today"
    return None
