"""The endpoints of this process's callbacks, kept in memory for a second: a busy address costs one query a second.

A change made by this process counts at once, one made elsewhere within REMEMBERED_S. Unknown addresses are asked for
each time.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.db import transaction
from django.db.models.signals import post_delete, post_save

from bots.models import Bot, Endpoint
from inference.models import LanguageModel
from integrations.base import Credentials
from integrations.models import PlatformCredential

REMEMBERED_S: Final = 1.0
MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """An address that takes callbacks: its endpoint (with bot, model and credential), and the open credentials."""

    endpoint: Endpoint
    credentials: Credentials
    read_at_s: float


_known: dict[str, Place] = {}
_changes = 0


def recall(key: str) -> Place | None:
    """From memory, without I/O; None when it must be looked up."""
    place = _known.get(key)
    return place if place and time.monotonic() - place.read_at_s < REMEMBERED_S else None


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
    read_at_s, generation = time.monotonic(), _changes
    endpoint = Endpoint.objects.live().with_key(key).select_related("bot__model", "credential").first()
    if endpoint is None:
        _known.pop(key, None)
        return None
    place = Place(endpoint, endpoint.credential.values(), read_at_s)
    if len(_known) >= MOST:
        _known.clear()
    if generation == _changes:  # else it may be older than a change
        _known[key] = place
    return place


def forget(**_: Any) -> None:
    """Receiver of the signals: what was read before this change is committed does not count any more."""
    _clear()
    transaction.on_commit(_clear)


def _clear() -> None:
    global _changes
    _changes += 1
    _known.clear()


def register() -> None:
    for model in (Endpoint, Bot, PlatformCredential, LanguageModel):
        post_save.connect(forget, sender=model, dispatch_uid=f"places-{model.__name__}-saved")
        post_delete.connect(forget, sender=model, dispatch_uid=f"places-{model.__name__}-deleted")
