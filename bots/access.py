"""Who may talk to a bot in chats: everyone, or who is listed as a person, by a department, or by a group."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from typing import Final

from django.core.cache import cache

from bots.addressing import credentials_of
from bots.models import Bot, Message
from integrations import resting
from integrations.errors import PlatformError
from integrations.registry import adapter_for
from integrations.resting import RedisLost
from monitoring import audit

logger = logging.getLogger(__name__)
REMEMBERED_S: Final = 600.0  # a person's departments


def is_refused(question: Message) -> bool:
    """Whether the sender may not talk to the bot; a refusal is audited.

    Raises PlatformError where only the platform can tell, and cannot now: the question waits.
    """
    bot = question.conversation.bot
    if bot.access == Bot.Access.EVERYONE or question.platform == "web" or _is_listed(question, bot):
        return False
    audit.record_refusal("bot.refused", target=bot, reason="the person is not listed")
    return True


def _is_listed(question: Message, bot: Bot) -> bool:
    is_group = question.conversation.chat_type == "group"
    if question.sender_id in bot.allowed_users or (is_group and question.conversation.chat_id in bot.allowed_chats):
        return True
    return bool(bot.allowed_departments) and not _departments(question).isdisjoint(bot.allowed_departments)


def _departments(question: Message) -> frozenset[str]:
    """As the platform tells, remembered for a while. Where it never will tell, none: in doubt nobody is let in."""
    credentials = credentials_of(question)
    person = f"{credentials.id}:{question.sender_id}"
    key = f"departments:{hashlib.sha256(person.encode()).hexdigest()}"
    with suppress(RedisLost), resting.redis.asked():
        if (known := cache.get(key)) is not None:
            return frozenset(known)
    try:
        found = adapter_for(question.platform).departments_of(credentials, question.sender_id)
    except PlatformError as error:
        if not error.permanent:
            raise
        logger.warning("a person's departments are not told", extra={"reason": str(error)})
        return frozenset()
    with suppress(RedisLost), resting.redis.asked():
        cache.set(key, sorted(found), REMEMBERED_S)
    return found
