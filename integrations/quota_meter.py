"""Counts the billed calls of one process: in memory, written every few seconds, never once a call.

Figures of other processes are seen a few seconds late.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import F, QuerySet
from django.utils import timezone

from integrations.metering import Quota
from integrations.models import PlatformCredential, QuotaUsage
from integrations.quota import QUOTAS, month_of, review, states
from integrations.values import Ignored, Inbound

logger = logging.getLogger(__name__)

FLUSH_S: Final = 5.0
FRESH_S: Final = 15.0  # how long a figure read from the database is believed


@dataclass(frozen=True, slots=True)
class _Account:
    credential_id: str
    quota: Quota
    month: date


class DatabaseMeter:
    """The meter of one process (integrations.metering.QuotaMeter)."""

    def __init__(self, now: Callable[[], datetime] = timezone.now) -> None:
        self._now, self._lock, self._wake = now, threading.Lock(), threading.Event()
        self._counted: Counter[_Account] = Counter()
        self._shares: dict[_Account, tuple[float, float]] = {}  # share, and when it is to be read again
        self._thread: threading.Thread | None = None

    def count(self, credential_id: str, quota: Quota) -> None:
        with self._lock:
            self._counted[self._account(credential_id, quota)] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="quota-meter", daemon=True)
                self._thread.start()
        self._wake.set()

    def share(self, credential_id: str, quota: Quota) -> float:
        account = self._account(credential_id, quota)
        with self._lock:
            share, until = self._shares.get(account, (0.0, 0.0))
        if time.monotonic() < until:
            return share
        share = self._read(account)
        with self._lock:
            self._shares[account] = share, time.monotonic() + FRESH_S
        return share

    def use_up(self, credential_id: str, quota: Quota) -> None:
        account = self._account(credential_id, quota)
        if self.share(credential_id, quota) < 1.0 and _exists(account):
            _rows(account).get_or_create(defaults=_names(account))
            _rows(account).filter(used_up_at=None).update(used_up_at=self._now())
            logger.warning("a monthly quota is used up", extra={"credential_id": credential_id, "quota": quota})
            review(account.month)
            self.forget()

    def flush(self) -> None:
        """Write what was counted, and keep what could not be written. Raises DatabaseError, InterfaceError."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
        if not counted:
            return
        try:
            for account in list(counted):
                _add(account, counted[account])
                del counted[account]
        finally:
            with self._lock:
                self._counted.update(counted)
        review(month_of(self._now()))
        self.forget()

    def forget(self) -> None:
        """Read the shares anew when they are needed next."""
        with self._lock:
            self._shares.clear()

    def _read(self, account: _Account) -> float:
        credential = PlatformCredential.objects.filter(pk=UUID(account.credential_id)).first()
        found = states(credential, account.month) if credential else []
        return next((state.share for state in found if state.quota == account.quota), 0.0)

    def _account(self, credential_id: str, quota: Quota) -> _Account:
        return _Account(credential_id, quota, month_of(self._now()))

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(FLUSH_S)
            self._wake.clear()
            self.flush_safely()

    def flush_safely(self) -> None:
        try:
            self.flush()
        except Exception:  # outermost: this thread must live, and the end of a process must not fail here
            logger.exception("the quota used was not written; it is tried again")
            self._wake.set()
        finally:
            connection.close()


def _add(account: _Account, number: int) -> None:
    if not _rows(account).update(used=F("used") + number) and _exists(account):
        _rows(account).get_or_create(defaults=_names(account))
        _rows(account).update(used=F("used") + number)


def _rows(account: _Account) -> QuerySet[QuotaUsage]:
    return QuotaUsage.objects.filter(**_names(account))


def _names(account: _Account) -> dict[str, Any]:
    return {"credential_id": UUID(account.credential_id), "quota": account.quota, "month": account.month}


def _exists(account: _Account) -> bool:
    """A credential may be deleted while its last calls are under way."""
    return PlatformCredential.objects.filter(pk=UUID(account.credential_id)).exists()


@cache
def meter() -> DatabaseMeter:
    """This process's meter."""
    made = DatabaseMeter()
    atexit.register(made.flush_safely)
    return made


def is_notice(event: Inbound) -> bool:
    """Whether the platform says with it that the quota is used up."""
    return isinstance(event, Ignored) and event.reason == "over_quota"


def received(credential: PlatformCredential, event: Inbound) -> None:
    """Some platforms bill what they deliver to us as well, and deliver a notice without a text over their quota."""
    if "webhook" in QUOTAS[credential.platform]:
        meter().count(str(credential.pk), "webhook")
    if is_notice(event):
        meter().use_up(str(credential.pk), "webhook")


def allow_again(credential: PlatformCredential) -> None:
    """An admin changed the plan: what the platform said before no longer holds."""
    credential.usage.filter(month=month_of(timezone.now())).update(used_up_at=None)
    meter().forget()
    review()
