"""Who works on a conversation. A claim is a conditional UPDATE with an owner, a fencing number and a heartbeat.

A second run finds nothing to claim; a dead worker's claim lapses after LAPSE_S. One watcher thread a process renews
what the process holds and learns which answers people cancelled; it also tells a holder that its claim was lost.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import close_old_connections, connection
from django.db.models.functions import Now
from django.utils import timezone

from bots import statements
from bots.errors import LeaseLost
from bots.models import Conversation, Message

logger = logging.getLogger(__name__)
LAPSE_S = 12.0
RENEW_S = 3.0
IDLE_S = 60.0
LOOK_S = 0.3  # how soon a cancelled answer stops, at the latest
HOST = socket.gethostname()[:30]
CLAIM = (
    "UPDATE bots_conversation SET lease_owner = %s, lease_fence = lease_fence + 1, lease_until = {until}"
    " WHERE id = %s AND (lease_until IS NULL OR lease_until < {now})"
)


class Lease:
    """A conversation held by this thread. ``owner`` is this claim's own: no other one ever has it."""

    def __init__(self, conversation_id: UUID, owner: str, good_until_s: float) -> None:
        self.conversation_id, self.owner = conversation_id, owner
        self.good_until_s = good_until_s  # monotonic, from before the claim was asked for: never after its lapse
        self._lost = threading.Event()
        self._message_id: UUID | None = None
        self._cancel: Callable[[], None] | None = None

    @contextmanager
    def working_on(self, message_id: UUID, cancel: Callable[[], None]) -> Iterator[None]:
        """While inside, ``cancel`` is called when the message is cancelled or the lease is lost."""
        self._message_id, self._cancel = message_id, cancel
        try:
            yield
        finally:
            self._message_id = self._cancel = None

    def check(self) -> None:
        """Raise LeaseLost when another worker may hold the conversation."""
        if self._lost.is_set() or time.monotonic() > self.good_until_s:
            raise LeaseLost(str(self.conversation_id))

    def cancel(self, message_id: UUID | None = None) -> None:
        """Stop what is being answered, if it is this message (None: whatever it is)."""
        cancel = self._cancel
        if cancel and message_id in (None, self._message_id):
            cancel()

    def lose(self) -> None:
        self._lost.set()
        self.cancel()

    @property
    def message_id(self) -> UUID | None:
        return self._message_id


@contextmanager
def hold(conversation_id: UUID) -> Iterator[Lease | None]:
    """Claim a conversation; None when another worker has it."""
    lease = _claim(conversation_id)
    if lease is None:
        yield None
        return
    _watcher.add(lease)
    try:
        yield lease
    finally:
        _watcher.remove(lease)
        free = {"lease_owner": "", "lease_until": None}
        statements.update(Conversation, free, {"id": conversation_id, "lease_owner": lease.owner})


def _claim(conversation_id: UUID) -> Lease | None:
    asked_at_s = time.monotonic()
    owner = f"{HOST}:{os.getpid()}:{uuid4().hex[:16]}"
    with connection.cursor() as cursor:
        cursor.execute(*_claiming(conversation_id, owner))
        return Lease(conversation_id, owner, asked_at_s + LAPSE_S) if cursor.rowcount else None


def _claiming(conversation_id: UUID, owner: str) -> tuple[str, list[Any]]:
    """The claim and its values, by the database's clock, as hosts disagree. SQLite has one host, and Python's clock."""
    lapse = timedelta(seconds=LAPSE_S)
    if connection.vendor == "postgresql":
        until, now = "STATEMENT_TIMESTAMP() + %s", "STATEMENT_TIMESTAMP()"
        return CLAIM.format(until=until, now=now), [owner, lapse, conversation_id]
    at, adapted = timezone.now(), connection.ops.adapt_datetimefield_value
    return CLAIM.format(until="%s", now="%s"), [owner, adapted(at + lapse), conversation_id.hex, adapted(at)]


class _Watcher:
    """Looks at the database every LOOK_S while this process holds anything; sleeps otherwise."""

    def __init__(self) -> None:
        self._held: dict[UUID, Lease] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, lease: Lease) -> None:
        with self._wake:
            lapsed = self._held.get(lease.conversation_id)
            self._held[lease.conversation_id] = lease
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-watcher", daemon=True)
                self._thread.start()
            self._wake.notify()
        if lapsed:
            lapsed.lose()

    def remove(self, lease: Lease) -> None:
        with self._wake:
            if self._held.get(lease.conversation_id) is lease:
                del self._held[lease.conversation_id]

    def leases(self) -> list[Lease]:
        with self._wake:
            return list(self._held.values())

    def _run(self) -> None:
        renewed_at, is_broken = time.monotonic(), False
        while True:
            try:
                self._wait_for_work()
                time.sleep(LOOK_S)  # a turn that ends sooner costs nothing here
                if is_broken:
                    close_old_connections()  # in here: it may raise, too
                    is_broken = False
                if self._held:
                    self._look()
                if self._held and time.monotonic() - renewed_at >= RENEW_S:
                    self._renew()
                    renewed_at = time.monotonic()
            except Exception:  # the one watcher must outlive whatever happens
                logger.warning("leases could not be renewed", exc_info=True)
                is_broken = True

    def _wait_for_work(self) -> None:
        with self._wake:
            while not self._held:
                if not self._wake.wait(IDLE_S):
                    connection.close()  # not at once: a connection for each message would cost more than the message

    def _look(self) -> None:
        """Cancel the answers that people stopped or took back."""
        working = {lease.message_id: lease for lease in self.leases() if lease.message_id}
        stopped = Message.objects.filter(pk__in=working, cancel_requested_at__isnull=False)
        for message_id in stopped.values_list("pk", flat=True):
            working[message_id].cancel(message_id)

    def _renew(self) -> None:
        mine = {lease.owner: lease for lease in self.leases()}
        asked_at_s = time.monotonic()
        rows = Conversation.objects.filter(pk__in=[lease.conversation_id for lease in mine.values()])
        rows = rows.filter(lease_owner__in=mine)
        rows.update(lease_until=Now() + timedelta(seconds=LAPSE_S))
        alive = set(rows.values_list("lease_owner", flat=True))
        for lease in mine.values():
            if lease.owner in alive:
                lease.good_until_s = asked_at_s + LAPSE_S
            elif lease in self.leases():
                lease.lose()


_watcher = _Watcher()


def cancel_all() -> None:
    """Stop every answer of this process (it is shutting down); their messages stay waiting for the next worker."""
    for lease in _watcher.leases():
        lease.lose()
