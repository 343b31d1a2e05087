"""How much may be asked of a bot, by one person and by all (counted from the messages themselves: nothing to keep in
step), and how many callbacks an endpoint may take (counted in the cache, shared by all web processes).
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.core.cache import cache
from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from bots.models import Bot, Endpoint, Message
from bots.models.conversation import MessageQuerySet
from inference.errors import QueueFull
from integrations import resting
from integrations.resting import RedisLost

logger = logging.getLogger(__name__)
COUNTED_EVERY_S: Final = 2.0  # all messages of a day: so late a bot's own limit may be noticed
WAIT_S: Final = 1.0
_used: dict[UUID, tuple[int, int, float]] = {}


def refusal(question: Message) -> str | None:
    """The name of the sentence to answer with (bots/sentences.py), or None when the person may ask."""
    bot = question.conversation.bot
    if question.sender_id and (refused := _of_person(question, bot)):
        return refused
    return "bot_had_enough" if _has_had_enough(question, bot) else None


def _of_person(question: Message, bot: Bot) -> str | None:
    mine = _up_to(question, bot).filter(sender_id=question.sender_id)
    minute = question.received_at - timedelta(minutes=1)
    if bot.rate_limit_per_user_per_minute:
        recent = mine.filter(received_at__gt=minute)[: bot.rate_limit_per_user_per_minute + 1].count()
        if recent > bot.rate_limit_per_user_per_minute:
            return "too_many"
    if bot.daily_tokens_per_user or bot.daily_messages_per_user:
        messages, tokens = _sums(mine.filter(received_at__gte=_midnight()))
        if bot.daily_tokens_per_user and tokens >= bot.daily_tokens_per_user:
            return "too_much_today"
        if bot.daily_messages_per_user and messages > bot.daily_messages_per_user:
            return "too_much_today"
    return None


def _has_had_enough(question: Message, bot: Bot) -> bool:
    """Of all together. Messages are counted exactly, or one process would let through what came in one second."""
    if bot.daily_tokens and used_today(bot)[1] >= bot.daily_tokens:
        return True
    if not bot.daily_messages:
        return False
    return _up_to(question, bot).filter(received_at__gte=_midnight()).count() > bot.daily_messages


def used_today(bot: Bot) -> tuple[int, int]:
    """Messages to the bot and tokens of its models since midnight, at most COUNTED_EVERY_S old."""
    messages, tokens, read_at_s = _used.get(bot.pk, (0, 0, -COUNTED_EVERY_S))
    if time.monotonic() - read_at_s >= COUNTED_EVERY_S:
        read_at_s = time.monotonic()
        mine = Message.objects.filter(role=Message.Role.USER, conversation__bot=bot, received_at__gte=_midnight())
        messages, tokens = _sums(mine)
        _used[bot.pk] = messages, tokens, read_at_s
    return messages, tokens


def wait_for_turn(question: Message) -> None:
    """Raises QueueFull while as many answers are under way as the bot, or the person, may have at the same time."""
    bot = question.conversation.bot
    if not (bot.max_parallel or bot.max_parallel_per_user):
        return
    held = Message.objects.filter(
        role=Message.Role.USER,
        status=Message.Status.ANSWERING,
        conversation__bot=bot,
        conversation__lease_until__gt=timezone.now(),
    ).exclude(pk=question.pk)
    if bot.max_parallel and held[: bot.max_parallel].count() >= bot.max_parallel:
        raise QueueFull("the bot answers as many questions as it may at the same time", WAIT_S)
    most, mine = bot.max_parallel_per_user, held.filter(sender_id=question.sender_id)
    if most and question.sender_id and mine[:most].count() >= most:
        raise QueueFull("the person gets as many answers as allowed at the same time", WAIT_S)


def _up_to(question: Message, bot: Bot) -> MessageQuerySet:
    """The bot's questions up to this one."""
    earlier = Q(received_at__lt=question.received_at) | Q(received_at=question.received_at, pk__lte=question.pk)
    return Message.objects.filter(earlier, role=Message.Role.USER, conversation__bot=bot)


def _sums(messages: MessageQuerySet) -> tuple[int, int]:
    found = messages.order_by().aggregate(n=Count("pk"), tokens=Sum(F("prompt_tokens") + F("completion_tokens")))
    return found["n"], found["tokens"] or 0


def _midnight() -> datetime:
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


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
