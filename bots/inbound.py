"""What a platform's event means for us, whichever way it came: webhook or long connection."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from bots import chats, clicks, drafts, menus, places, recalls, turns
from bots.drafts import Draft
from bots.models import Endpoint, Message
from integrations import quota_meter
from integrations.errors import AuthenticationError
from integrations.models import PlatformCredential
from integrations.registry import adapter_for
from integrations.values import (
    BotAdded,
    BotRemoved,
    CardAction,
    Challenge,
    ChatOpened,
    Ignored,
    Inbound,
    IncomingMessage,
    MenuClicked,
    Reaction,
    Recalled,
)

logger = logging.getLogger(__name__)
FLUSH_S = 2.0


@dataclass(frozen=True, slots=True)
class Effect:
    """What is left to the door: a message to hand to intake.accept, and what a pressed button is answered."""

    draft: Draft | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)


def handle(endpoint: Endpoint, event: Inbound) -> Effect:
    """Act on an authentic event.

    Raises AuthenticationError where only the stored credential tells that the event is not for us.
    """
    return act(endpoint, event, draft_of(endpoint, event))


def draft_of(endpoint: Endpoint, event: Inbound) -> Draft | None:
    """Without any I/O."""
    return drafts.draft(endpoint, event) if isinstance(event, IncomingMessage) else None


def has_effect(endpoint: Endpoint, event: Inbound, item: Draft | None) -> bool:
    """Whether ``act`` needs the database: of messages, for a few only."""
    if isinstance(event, IncomingMessage):
        return (
            (item is not None and _is_stop(item))
            or _pins_company(endpoint.credential, event)
            or _is_foreign(endpoint.credential, event)
        )
    return not isinstance(event, Ignored | Challenge) or quota_meter.is_notice(event)


def act(endpoint: Endpoint, event: Inbound, item: Draft | None) -> Effect:
    """What an event changes besides being stored."""
    quota_meter.received(endpoint.credential, event)
    match event:
        case IncomingMessage():
            pin_company(endpoint.credential, event)
        case MenuClicked():
            item = menus.draft(endpoint, event)
        case CardAction():
            toast = clicks.press(endpoint, event)
            return Effect(shown=adapter_for(endpoint.credential.platform).shown(event, toast))
        case _:
            _note(endpoint, event)
    if item and _is_stop(item):
        stop(item)
    return Effect(item)


def _note(endpoint: Endpoint, event: Inbound) -> None:
    match event:
        case Recalled():
            recalls.recall(endpoint, event.message_id)
        case Reaction():
            clicks.react(endpoint, event)
        case BotAdded():
            chats.added(endpoint, event)
        case BotRemoved():
            chats.removed(endpoint, event)
        case ChatOpened():
            chats.opened(endpoint, event)


def _is_stop(item: Draft) -> bool:
    """Where it is not known yet whether the bot is meant, nothing is stopped at the door."""
    return item.details.get("command") == "stop" and item.details.get("is_addressed") is True


def stop(item: Draft) -> None:
    """Cancel at once what is being answered there; the word that it was done comes in its turn. Repeats do nothing."""
    known = Message.objects.filter(platform=item.platform, app_id=item.app_id, external_id=item.external_id)
    if not known.exists():
        place = {"bot": item.bot_id, "source": item.source, "scope_key": item.scope_key}
        asked = Message.objects.filter(**{f"conversation__{name}": value for name, value in place.items()})
        item.details["stopped"] = turns.request_cancel(asked)


def pin_company(credential: PlatformCredential, incoming: IncomingMessage) -> None:
    """DingTalk signs no body, so the first authenticated message fixes the company for good (rule W1).

    Raises AuthenticationError for another company, also one that another process has pinned just now.
    """
    if _is_foreign(credential, incoming):
        raise AuthenticationError("the message is from another company")
    if not _pins_company(credential, incoming):
        return
    row = PlatformCredential.objects.filter(pk=credential.pk)
    row.filter(corp_id="").update(corp_id=incoming.tenant_id)
    places.forget()
    if not row.filter(corp_id=incoming.tenant_id).exists():
        raise AuthenticationError("the message is from another company")


def _pins_company(credential: PlatformCredential, incoming: IncomingMessage) -> bool:
    if credential.corp_id or not incoming.tenant_id:
        return False
    return adapter_for(credential.platform).pins_company


def _is_foreign(credential: PlatformCredential, incoming: IncomingMessage) -> bool:
    return bool(incoming.tenant_id and credential.corp_id not in ("", incoming.tenant_id))


class _Pulse:
    """Notes when each endpoint was last heard; written every FLUSH_S, never once a message."""

    def __init__(self) -> None:
        self._heard: set[UUID] = set()
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, endpoint_id: UUID) -> None:
        with self._guard:
            self._heard.add(endpoint_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="endpoint-pulse", daemon=True)
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(FLUSH_S)
            self._wake.clear()
            with self._guard:
                heard, self._heard = self._heard, set()
            try:
                Endpoint.objects.filter(pk__in=heard).update(last_event_at=timezone.now())
            except Exception:  # the next flush may work; this thread must live
                logger.warning("when endpoints were last heard was not written", exc_info=True)
            finally:
                connection.close()


_pulse = _Pulse()


def heard_from(endpoint: Endpoint) -> None:
    _pulse.note(endpoint.pk)
