"""A batch of drafts -> rows, in one transaction. Repeats find the row of the first one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import IntegrityError, OperationalError, transaction

from bots import inserting
from bots.drafts import Accepted, ConversationKey, Draft
from bots.models import Conversation, Message

MOST_REMEMBERED = 50_000
DEADLOCK = "40P01"
# Conversations never change their place. One that was deleted is noticed at the commit, and all are forgotten.
_remembered: dict[ConversationKey, UUID] = {}


def store(drafts: Sequence[Draft]) -> list[Accepted]:
    """Durable when it returns, in the order given; repeats find the row of the first one. Raises DatabaseError."""
    if not drafts:
        return []
    try:
        return _store(drafts)
    except (IntegrityError, OperationalError) as error:
        if isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", "") != DEADLOCK:
            raise
        _remembered.clear()
        return _store(drafts)


def _store(drafts: Sequence[Draft]) -> list[Accepted]:
    if all(item.place in _remembered for item in drafts):
        return _inserted(drafts)  # one statement is a transaction by itself
    with transaction.atomic():
        return _inserted(drafts)


def _inserted(drafts: Sequence[Draft]) -> list[Accepted]:
    conversations = _conversations(drafts)
    # Two processes that store the same repeats wait for each other: in one order, or they are deadlocked.
    in_order = sorted(drafts, key=lambda item: (item.platform, item.app_id, item.external_id))
    new = inserting.insert(in_order, [conversations[item.place] for item in in_order])
    return [
        Accepted(item.id, conversations[item.place], is_new=True) if item.id in new else _first(item) for item in drafts
    ]


def _conversations(drafts: Sequence[Draft]) -> dict[ConversationKey, UUID]:
    wanted = {item.place: item for item in drafts}
    found = {place: _remembered[place] for place in wanted if place in _remembered}
    found |= _existing({place: item for place, item in wanted.items() if place not in found})
    missing = [_conversation(item) for place, item in wanted.items() if place not in found]
    if missing:
        missing.sort(key=lambda row: (str(row.bot_id), row.source, row.scope_key))
        Conversation.objects.bulk_create(missing, ignore_conflicts=True)
        found |= _existing({place: item for place, item in wanted.items() if place not in found})
    if len(_remembered) > MOST_REMEMBERED:
        _remembered.clear()
    _remembered.update(found)
    return found


def _existing(wanted: dict[ConversationKey, Draft]) -> dict[ConversationKey, UUID]:
    if not wanted:
        return {}
    bots, sources, scopes = (set(column) for column in zip(*wanted, strict=True))
    rows = Conversation.objects.filter(bot__in=bots, source__in=sources, scope_key__in=scopes)
    places = rows.values_list("bot", "source", "scope_key", "pk")
    found = {(bot, source, scope): pk for bot, source, scope, pk in places}
    return {place: found[place] for place in wanted if place in found}


def _conversation(item: Draft) -> Conversation:
    return Conversation(
        bot_id=item.bot_id,
        endpoint_id=item.endpoint_id,
        platform=item.platform,
        source=item.source,
        scope_key=item.scope_key,
        chat_type=item.chat_type,
        chat_id=item.chat_id,
        user_id=item.sender_id,
        user_name=item.sender_name,
    )


def _first(item: Draft) -> Accepted:
    """The row that a repeat repeats."""
    pk, conversation_id = Message.objects.values_list("pk", "conversation_id").get(
        platform=item.platform, app_id=item.app_id, external_id=item.external_id
    )
    return Accepted(pk, conversation_id, is_new=False)
