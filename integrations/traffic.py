"""What one app may do on its platform at this moment: paced, billed and, while the app is broken, held back.

Ask ``admit`` before a call is noted in a journal, and wrap the call itself in ``made``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from integrations import pacing, standing
from integrations.breaker import Breaker, breaker_of
from integrations.errors import PlatformError
from integrations.metering import Quota, QuotaMeter
from integrations.pacing import Bucket
from integrations.values import Credentials
from monitoring import metrics

SHORTEST_RETRY_S = 1.0
LONGEST_HOLD_S = 300.0


class HeldBack(PlatformError):
    """Our own refusal: the call was not made, and nothing was sent."""


class Stopped(HeldBack):
    """Held back because the app does not work, not because of its pace."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call to come: its label in the metrics, the buckets it takes from (the call's own first), who pays."""

    name: str
    buckets: tuple[Bucket, ...]
    quota: Quota = "api"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed call says about the calls to come.

    ``is_app_broken``: all others would fail as well. ``full``: the scope of the bucket that the platform finds
    overfull. ``is_used_up``: nothing is left of the month's quota. ``is_billed``: the platform may charge for it.
    """

    is_app_broken: bool = False
    is_billed: bool = False
    is_used_up: bool = False
    full: str = ""


class Traffic:
    """The calls of one app. ``judge`` tells what a platform's error means."""

    def __init__(self, credentials: Credentials, judge: Callable[[PlatformError], Verdict], meter: QuotaMeter) -> None:
        self._credentials, self._judge, self._meter = credentials, judge, meter

    def admit(self, call: Call, patience_s: float) -> None:
        """Let a call pass, after a sleep of ``patience_s`` at most. Raises HeldBack; it costs no quota."""
        breaker = self._breaker(call)
        if wait_s := breaker.enter():
            raise self._refused(call, Stopped, f"the app does not work ({breaker.reason})", wait_s)
        if wait_s := pacing.wait_for(call.buckets, patience_s):
            breaker.leave()
            raise self._refused(call, HeldBack, "too many calls at this moment; it is tried again", wait_s)

    @contextmanager
    def made(self, call: Call) -> Iterator[None]:
        """Learn from how a call ends."""
        try:
            yield
        except PlatformError as error:
            self._failed(call, error, self._judge(error))
            raise
        self._breaker(call).report()
        standing.note(self._credentials.id, standing.WORKS)
        self._meter.count(self._credentials.id, call.quota)

    def _failed(self, call: Call, error: PlatformError, verdict: Verdict) -> None:
        self._breaker(call).report(str(error) if verdict.is_app_broken else "")
        standing.note(self._credentials.id, standing.BROKEN if verdict.is_app_broken else standing.WORKS)
        wait_s = min(max(error.retry_after_s or SHORTEST_RETRY_S, 0.0), LONGEST_HOLD_S)
        if verdict.full:
            named = (bucket for bucket in call.buckets if bucket.scope == verdict.full)
            pacing.buckets().hold(next(named, call.buckets[0]), wait_s)
        if verdict.is_billed:
            self._meter.count(self._credentials.id, call.quota)
        if verdict.is_used_up:
            self._meter.use_up(self._credentials.id, call.quota)

    def _breaker(self, call: Call) -> Breaker:
        app = self._credentials
        return breaker_of(f"{app.platform}:{app.api_url}:{app.app_id}:{call.quota}")

    def _refused(self, call: Call, kind: type[HeldBack], reason: str, wait_s: float) -> HeldBack:
        metrics.platform_call(self._credentials.platform, call.name, "held back")
        return kind(f"Held back, {call.name}: {reason}", retry_after_s=max(wait_s, SHORTEST_RETRY_S))
