"""Where messages come from and who answers them, kept in memory for a second: a busy bot costs a query a second.

The door asks by the key in an address, a worker by what a conversation names. A change made by this process counts at
once, one made elsewhere within REMEMBERED_S. Unknown addresses are asked for each time.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from bots.models import Bot, Conversation, Endpoint, WordList
from bots.models.bot import EndpointQuerySet
from bots.words import known
from inference.models import LanguageModel
from integrations.models import PlatformCredential
from integrations.values import Credentials

REMEMBERED_S: Final = 1.0
MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """An address that takes callbacks: its endpoint (with bot, model and credential), and the open credentials."""

    endpoint: Endpoint
    credentials: Credentials
    read_at_s: float


_known: dict[str | UUID, Place] = {}  # by the key in the address, and by the endpoint's id
_bots: dict[UUID, tuple[Bot, float]] = {}
_changes = 0


def recall(key: str | UUID) -> Place | None:
    """From memory, without I/O; None when it must be looked up."""
    place = _known.get(key)
    return place if place and _is_fresh(place.read_at_s) else None


@cache
def nobodys(platform: str) -> Credentials:
    """Secrets that open nothing, for callbacks of addresses that do not exist: as much work as a real refusal."""
    secret = secrets.token_urlsafe(32)
    return Credentials(
        id="",
        platform=platform,
        app_id="nobody",
        api_url="",
        app_secret=secret,
        verification_token=secret,
        encrypt_key=secret,
    )


def look_up(key: str) -> Place | None:
    """From the database; None when there is no such address, or it is disabled."""
    return _read(key, Endpoint.objects.live().with_key(key))


def attach(conversation: Conversation) -> None:
    """Give it its bot with the model, and its endpoint with the credential."""
    conversation.bot = _bot(conversation.bot_id)
    if conversation.endpoint_id:
        place = of(conversation.endpoint_id)
        conversation.endpoint = place.endpoint if place else None


def of(endpoint_id: UUID) -> Place | None:
    """Enabled or not: what was asked is answered. None when it was deleted."""
    return recall(endpoint_id) or _read(endpoint_id, Endpoint.objects.filter(pk=endpoint_id))


def _read(key: str | UUID, rows: EndpointQuerySet) -> Place | None:
    read_at_s, generation = time.monotonic(), _changes
    endpoint = rows.select_related("bot__model", "credential").first()
    if endpoint is None:
        _known.pop(key, None)
        return None
    place = Place(endpoint, _credentials(endpoint), read_at_s)
    if len(_known) >= MOST:
        _known.clear()
    if generation == _changes:  # else it may be older than a change
        _known[key] = place
    return place


def _credentials(endpoint: Endpoint) -> Credentials:
    """With the address, where the platform calls us."""
    url = endpoint.webhook_url if endpoint.mode == Endpoint.Mode.WEBHOOK else ""
    values = endpoint.credential.values()
    return replace(values, callback_url=url, other=values.other and replace(values.other, callback_url=url))


def _bot(bot_id: UUID) -> Bot:
    bot, read_at_s = _bots.get(bot_id, (None, 0.0))
    if bot is None or not _is_fresh(read_at_s):
        read_at_s, generation = time.monotonic(), _changes
        bot = Bot.objects.select_related("model", "moderator").annotate(has_word_lists=known.has_any()).get(pk=bot_id)
        if generation == _changes:
            _bots[bot_id] = bot, read_at_s
    return bot


def _is_fresh(read_at_s: float) -> bool:
    return time.monotonic() - read_at_s < REMEMBERED_S


def forget(**_: Any) -> None:
    """Receiver of the signals: what was read before this change is committed does not count any more."""
    _clear()
    transaction.on_commit(_clear)


def _clear() -> None:
    global _changes
    _changes += 1
    _known.clear()
    _bots.clear()
    known.forget()


def register() -> None:
    for model in (Endpoint, Bot, PlatformCredential, LanguageModel, WordList):
        post_save.connect(forget, sender=model, dispatch_uid=f"places-{model.__name__}-saved")
        post_delete.connect(forget, sender=model, dispatch_uid=f"places-{model.__name__}-deleted")
    m2m_changed.connect(forget, sender=WordList.bots.through, dispatch_uid="places-word-lists-of-bots")
