"""Who fails again and again is shut out for a while (rule A10): wrong signatures, passwords, keys and tokens.

Every refusal that an unknown caller causes passes the audit log's writer, which tells us. Counts are kept for a
network (an IPv4 address, an IPv6 /64) in the cache that all processes share, and written by the gate's background
thread. Loopback, trusted proxies, networks that a rule allows, and for callbacks whoever lately sent an authentic one
are never blocked by this. A block is an ordinary network rule with an end; who comes back is blocked four times longer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.cache.backends.base import BaseCache
from django.db import transaction
from django.utils import timezone

from clawdbot_site.security.counting import in_store
from clawdbot_site.security.ip_rules import caller_of
from clawdbot_site.security.models import IPRule
from monitoring import audit
from monitoring.client_ip import holds_own
from monitoring.context import SYSTEM, Actor, bind

logger = logging.getLogger(__name__)

# What a refusal of this kind closes: the doors to the callbacks, or all of the site.
SCOPES: Final = {
    "webhook.rejected": IPRule.Scope.WEBHOOKS,
    "auth.failed": IPRule.Scope.SITE,
    "auth.refused": IPRule.Scope.SITE,
    "token.refused": IPRule.Scope.SITE,
    "access.refused": IPRule.Scope.SITE,
}
MOST_PENDING: Final = 1_000  # addresses between two flushes: the thread that writes them also follows the rules
MOST_AUTHENTIC: Final = 10_000
GROWTH: Final = 4
REMEMBERED: Final = timedelta(days=7)  # how long an earlier block makes the next one longer
AUTHENTIC_S: Final = 24 * 3600
AUTHENTIC_STEP_S: Final = 60.0

Key = tuple[str, str]  # a scope and a network


class Watch:
    """Counts in memory what the background thread writes down; thread-safe, and never waits for anything."""

    def __init__(self) -> None:
        self._failures: Counter[tuple[str, str]] = Counter()  # by scope and address
        self._authentic: dict[str, float] = {}  # address -> when last told to the cache
        self._new_authentic: set[str] = set()
        self._lock = threading.Lock()

    def note(self, action: str, actor: Actor, address: str) -> None:
        """A refusal was recorded. Those of people who are signed in are mistakes and no attack."""
        if action in SCOPES and actor.kind == "anonymous" and address and settings.AUTO_BLOCK_FAILURES:
            with self._lock:
                if len(self._failures) < MOST_PENDING:
                    self._failures[SCOPES[action].value, address] += 1

    def note_authentic(self, address: str) -> None:
        """A callback proved that a platform sends from here. Costs the message path a look into a dictionary."""
        now = time.monotonic()
        if now - self._authentic.get(address, -AUTHENTIC_STEP_S) >= AUTHENTIC_STEP_S:
            with self._lock:
                if len(self._authentic) >= MOST_AUTHENTIC:
                    self._authentic.clear()
                self._authentic[address] = now
                self._new_authentic.add(caller_of(address))

    def flush(self, is_welcome: Callable[[str], bool]) -> None:
        """Add up what was noted, and block who has failed too often. Raises DatabaseError."""
        with self._lock:
            failures, self._failures = self._failures, Counter()
            authentic, self._new_authentic = self._new_authentic, set()
        for network in authentic:
            _remember(network)
        if not settings.AUTO_BLOCK_FAILURES:
            return
        for (scope, address), count in failures.items():
            key = (scope, caller_of(address))
            if not (is_welcome(address) or is_exempt(key)) and _add(key, count) >= settings.AUTO_BLOCK_FAILURES:
                block(key)


watch = Watch()


def is_exempt(key: Key) -> bool:
    scope, network = key
    if not network or holds_own(network):
        return True
    return scope == IPRule.Scope.WEBHOOKS and bool(in_store(lambda store: store.get(_authentic_key(network))))


def block(key: Key) -> None:
    """Make the rule, audited, in one transaction; the count begins anew after it."""
    scope, network = key
    if not in_store(lambda store: store.add(f"{_key(key)}:blocking", 1, 5)):
        return  # another process does
    lasts = duration(network)
    note = f"{settings.AUTO_BLOCK_FAILURES} failures within {settings.AUTO_BLOCK_WINDOW_S // 60} minutes"
    with bind(actor=SYSTEM, address="", request_id=""), transaction.atomic():
        rule = IPRule.objects.create(
            action=IPRule.Action.BLOCK,
            network=network,
            scope=scope,
            is_automatic=True,
            expires_at=timezone.now() + lasts,
            note=note,
        )
        audit.record("iprule.created", target=rule, changes=audit.diff({}, audit.snapshot(rule)), reason=note)
    in_store(lambda store: store.delete(_key(key)))
    logger.warning("a network was blocked automatically", extra={"network": network, "scope": scope})


def duration(network: str) -> timedelta:
    """Four times as long for each block of the last seven days that nobody lifted."""
    earlier = IPRule.objects.automatic().filter(network=network, created_at__gt=timezone.now() - REMEMBERED).count()
    seconds = settings.AUTO_BLOCK_FIRST_S * GROWTH ** min(earlier, 20)
    return timedelta(seconds=min(seconds, settings.AUTO_BLOCK_LONGEST_S))


def forget_old() -> None:
    """Blocks that ended more than seven days ago say nothing any more."""
    for rule in IPRule.objects.automatic().filter(expires_at__lt=timezone.now() - REMEMBERED):
        with transaction.atomic():
            audit.record_deleted(rule, reason="an automatic block that ended long ago")
            rule.delete()


def _add(key: Key, count: int) -> int:
    """The failures of this window, with these. A window begins with its first failure."""
    name = _key(key)

    def add(store: BaseCache) -> int:
        store.add(name, 0, settings.AUTO_BLOCK_WINDOW_S)
        try:
            return store.incr(name, count)
        except ValueError:  # the window ended between the two calls
            store.set(name, count, settings.AUTO_BLOCK_WINDOW_S)
            return count

    return in_store(add)


def _remember(network: str) -> None:
    in_store(lambda store: store.set(_authentic_key(network), 1, AUTHENTIC_S))


def _key(key: Key) -> str:
    return f"suspect:{key[0]}:{key[1]}"


def _authentic_key(network: str) -> str:
    return f"authentic:{network}"
