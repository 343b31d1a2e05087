"""Forgetting a person: their words, files and names go from all conversations; counters and audit digests stay.

The rows stay, blank and under a name that leads to nobody, so that usage, costs and the audit log still add up. What is
being answered is stopped first: a worker that holds it would write it back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bots import files, turns
from bots.errors import BotError
from bots.models import Bot, Conversation, Feedback, Message, MessageFile
from bots.models.conversation import MessageQuerySet
from clawdbot_site.security.teams import visible
from monitoring import audit, marks
from monitoring.ids import uuid7

BATCH: Final = 500
KEPT_DETAILS: Final = ("kind", "is_addressed", "model", "fallback_from", "retried_at", "is_refused", "is_blocked")
SHARED: Final = ("chat:", "thread:")  # how the scope of a conversation of several persons begins


class StillAnswering(BotError):
    """Messages of the person are being answered; they were asked to stop. The text says to try again."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was blanked or deleted."""

    messages: int = 0
    answers: int = 0
    files: int = 0
    conversations: int = 0
    votes: int = 0
    quotations: int = 0

    @property
    def is_any(self) -> bool:
        return any(astuple(self))


def remains() -> list[str]:
    """What is not forgotten, in words for who asks."""
    return [
        _("Numbers: how many messages and tokens there were, and when. They lead to nobody any more."),
        _("The audit log: IDs and digests of texts, never the texts. It ends by its own retention."),
        _("What other people wrote about the person, and the answers to it."),
        _("The platform's own copy of the chat, backups, and log files until they are rotated."),
        _("The person's ID in lists of who may talk to a bot, and an account of this site. Remove them there."),
    ]


def forget(platform: str, user_id: str) -> Forgotten:
    """Raises StillAnswering. A person who writes again begins anew."""
    _stop(_of(platform, user_id))
    with transaction.atomic():
        done = _forget(platform, user_id, f"forgotten:{secrets.token_hex(6)}")
        person = {"platform": platform, "person_mark": marks.of_content(user_id)}
        audit.record("person.forgotten", target_label=platform, changes={**person, **asdict(done)})
    return done


def is_known_to_others(platform: str, user_id: str, caller: object) -> bool:
    """Whether the person wrote to bots that the caller may not know of (teams)."""
    rows = _of(platform, user_id) | Message.objects.filter(platform=platform, conversation__user_id=user_id)
    return rows.exclude(conversation__bot__in=visible(Bot.objects.all(), caller)).exists()


def _of(platform: str, user_id: str) -> MessageQuerySet:
    return Message.objects.filter(platform=platform, sender_id=user_id)


def _stop(messages: MessageQuerySet) -> None:
    if count := turns.request_cancel(messages):
        text = ngettext(
            "%(count)d message of this person is being answered and was told to stop. Try again in a minute.",
            "%(count)d messages of this person are being answered and were told to stop. Try again in a minute.",
            count,
        )
        raise StillAnswering(text % {"count": count})


def _forget(platform: str, user_id: str, nobody: str) -> Forgotten:
    own = Conversation.objects.filter(platform=platform, user_id=user_id)
    sums = [_forget_batch(keys, nobody) for keys in _batches(_of(platform, user_id))]
    messages, answers, deleted, quotations = (sum(column) for column in zip(*sums, strict=True)) if sums else (0,) * 4
    pushed = Message.objects.filter(conversation__in=own, role=Message.Role.ASSISTANT, reply_to=None)
    answers += sum(_blank(Message.objects.filter(pk__in=keys)) for keys in _batches(pushed.exclude(text="")))
    conversations = [_forget_conversation(row, nobody) for row in own]
    votes = Feedback.objects.filter(user_id=user_id, reply__platform=platform)
    return Forgotten(messages, answers, deleted, len(conversations), votes.update(user_id=nobody), quotations)


def _batches(messages: MessageQuerySet) -> Iterator[list[UUID]]:
    keys = list(messages.order_by().values_list("pk", flat=True))
    for begin in range(0, len(keys), BATCH):
        yield keys[begin : begin + BATCH]


def _forget_batch(keys: list[UUID], nobody: str) -> tuple[int, int, int, int]:
    """Messages, answers, files and quotations."""
    asked = Message.objects.filter(pk__in=keys)
    names = [name for name in asked.values_list("external_id", flat=True) if name]
    quotations = _forget_quotations(names)
    deleted, _labels = MessageFile.objects.filter(message__in=keys).delete()
    answers = _blank(Message.objects.filter(reply_to__in=keys))
    return _blank(asked, nobody), answers, deleted, quotations


def _blank(messages: MessageQuerySet, nobody: str = "") -> int:
    """Of the web, a message's own id names its caller; of a platform it is what repeats are known by."""
    rows = list(messages.only("platform", "details", "external_id", "sender_id", "text", "session_url"))
    for row in rows:
        row.text, row.session_url = "", ""
        row.sender_id = nobody
        row.external_id = "" if row.platform == Conversation.Platform.WEB else row.external_id
        row.details = {name: row.details[name] for name in KEPT_DETAILS if name in row.details} | {"is_forgotten": True}
        row.save(update_fields=["text", "session_url", "sender_id", "external_id", "details"])
    return len(rows)


def _forget_quotations(names: list[str]) -> int:
    """What others quoted of these messages."""
    quoting = Message.objects.filter(details__quoted__message_id__in=names) if names else Message.objects.none()
    rows = list(quoting.only("details"))
    for row in rows:
        row.details["quoted"] = {"message_id": row.details["quoted"]["message_id"], "is_complete": True}
        row.save(update_fields=["details"])
        MessageFile.objects.filter(message=row, position__gte=files.QUOTED_FROM).delete()
    return len(rows)


def _forget_conversation(row: Conversation, nobody: str) -> Any:
    """One of several persons stays where it is. One's own gets another row: conversations never change their place,
    and the door, which remembers where they are, notices one that is gone."""
    if row.scope_key.startswith(SHARED):
        return Conversation.objects.filter(pk=row.pk).update(user_id=nobody, user_name="")
    successor = Conversation.objects.create(
        bot_id=row.bot_id,
        endpoint_id=row.endpoint_id,
        platform=row.platform,
        source=row.source,
        scope_key=f"{nobody}:{uuid7().hex}",
        chat_type=row.chat_type,
        chat_id=row.chat_id if row.chat_type == "group" else "",
        user_id=nobody,
        created_at=row.created_at,
    )
    row.messages.update(conversation=successor)
    return Conversation.objects.filter(pk=row.pk).delete()
