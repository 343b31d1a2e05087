"""How much one person may ask of one bot (counted from the messages themselves: nothing to keep in step), and how many
callbacks an endpoint may take (counted in the cache, shared by all web processes).
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.core.cache import cache
from django.db.models import F, Q, Sum
from django.utils import timezone

from bots.models import Endpoint, Message
from integrations import resting
from integrations.resting import RedisLost

logger = logging.getLogger(__name__)


def refusal(question: Message) -> str | None:
    """The name of the sentence to answer with (bots/sentences.py), or None when the person may ask."""
    bot = question.conversation.bot
    if not question.sender_id:
        return None
    mine = Message.objects.filter(role=Message.Role.USER, sender_id=question.sender_id, conversation__bot=bot)
    earlier = Q(received_at__lt=question.received_at) | Q(received_at=question.received_at, pk__lte=question.pk)
    mine = mine.filter(earlier)
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


def endpoint_pause_s(endpoint: Endpoint) -> int:
    """How long the platform should wait when an endpoint has had its callbacks of this minute; 0: it may go on."""
    if not endpoint.rate_limit_per_minute:
        return 0
    minute, second = divmod(int(time.time()), 60)
    key = f"callbacks:{endpoint.pk.hex}:{minute}"
    try:
        with resting.redis.asked():
            cache.add(key, 0, 120)
            count = cache.incr(key)
    except RedisLost:
        return 0
    except ValueError:
        logger.warning("callbacks are not counted: the counter was dropped from the cache")
        return 0
    return 60 - second if count > endpoint.rate_limit_per_minute else 0
