"""Who holds which long connection: leases of rows, and what their holders report. Synchronous, for one thread.

A claim is a conditional UPDATE by the database's clock, as in bots/leases.py; a dead holder's lapses after LAPSE_S.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from bots.models import Endpoint, LongConnection
from integrations.listening import State
from integrations.values import Credentials

HOLDER = f"{socket.gethostname()[:30]}:{os.getpid()}:{uuid4().hex[:16]}"  # this process
LAPSE_S = 10.0
MOST_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint that needs a connection. Another value for the same endpoint needs another connection."""

    endpoint_id: UUID
    credential_id: UUID
    changed_at: datetime  # of the credential


@dataclass(frozen=True, slots=True)
class Status:
    """What a connection last reported of itself."""

    state: State = "connecting"
    detail: str = ""
    connected_at: datetime | None = None
    heard_at: datetime | None = None
    connects: int = 0

    def after(self, state: State, detail: str = "", *, heard: bool = False) -> Status:
        """The status after one more Report."""
        now, detail = timezone.now(), detail[:MOST_DETAIL]
        if heard:
            return replace(self, state=state, detail=detail, heard_at=now)
        if state == "connected":
            return replace(self, state=state, detail=detail, connected_at=now, connects=self.connects + 1)
        return replace(self, state=state, detail=detail)


@dataclass(frozen=True, slots=True)
class Claim:
    endpoint_id: UUID
    holder: str
    fence: int
    reconnects: int  # of the holders before

    def row(self) -> QuerySet[LongConnection]:
        """The row, as long as the claim is good."""
        return LongConnection.objects.filter(pk=self.endpoint_id, holder=self.holder, fence=self.fence)


def wanted() -> dict[UUID, Wanted]:
    rows = Endpoint.objects.live().filter(mode=Endpoint.Mode.STREAM)
    values = rows.values_list("pk", "credential_id", "credential__updated_at")
    return {pk: Wanted(pk, credential_id, changed_at) for pk, credential_id, changed_at in values}


def credentials_of(endpoint_id: UUID) -> Credentials:
    return Endpoint.objects.select_related("credential").get(pk=endpoint_id).credential.values()


def claim(endpoint_ids: Collection[UUID], holder: str) -> list[Claim]:
    """Claim those that nobody holds, in one statement; of two holders that try at once, one finds nothing."""
    if not endpoint_ids:
        return []
    new = Endpoint.objects.filter(pk__in=endpoint_ids, long_connection__isnull=True)
    LongConnection.objects.bulk_create([LongConnection(endpoint=endpoint) for endpoint in new], ignore_conflicts=True)
    rows, until = LongConnection.objects.filter(pk__in=endpoint_ids), Now() + timedelta(seconds=LAPSE_S)
    rows.free().update(holder=holder, fence=F("fence") + 1, held_until=until)
    mine = rows.filter(holder=holder).values_list("pk", "fence", "reconnects")
    return [Claim(pk, holder, fence, reconnects) for pk, fence, reconnects in mine]


def renew(claims: Mapping[Claim, Status]) -> set[Claim]:
    """Prolong and write down how the connections are; return the claims that are still good."""
    until = Now() + timedelta(seconds=LAPSE_S)
    with transaction.atomic():  # one commit for all
        return {held for held, now in claims.items() if held.row().update(held_until=until, **_fields(held, now))}


def release(claims: Mapping[Claim, Status]) -> None:
    """Let go, so that another process may begin at once."""
    for held, status in claims.items():
        given = {**_fields(held, status), "state": LongConnection.State.IDLE, "detail": ""}
        held.row().update(holder="", held_until=None, **given)


def release_all(holder: str) -> None:
    """Let go of whatever this holder has; it ends."""
    LongConnection.objects.filter(holder=holder).update(
        holder="", held_until=None, state=LongConnection.State.IDLE, detail=""
    )


def _fields(claim: Claim, status: Status) -> dict[str, Any]:
    return {
        "state": status.state,
        "detail": status.detail,
        "connected_at": status.connected_at,
        "last_event_at": status.heard_at or F("last_event_at"),
        "reconnects": claim.reconnects + max(0, status.connects - 1),
    }


def tell(endpoint_id: UUID, status: Status) -> None:
    """The endpoint's page says what its admin has to do, until it is done."""
    if status.state in ("refused", "connected"):
        Endpoint.objects.filter(pk=endpoint_id).update(last_error=status.detail)
