"""How often somebody may guess. Counts attempts; knows nothing of passwords.

Attempts are counted in Django's cache, before they are tried, for an account from one address, for the account, and
for the network. A success takes its own count back and clears the account's at that address; so only failures add up.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Final

from django.core.cache.backends.base import BaseCache
from django.http import HttpRequest
from rest_framework.request import Request

from clawdbot_site.security.counting import in_store
from clawdbot_site.security.ip_rules import caller_of
from monitoring.client_ip import client_ip, scope_of

WINDOW_S: Final = 300
MAX_PER_ACCOUNT_AND_ADDRESS: Final = 10
MAX_PER_ACCOUNT: Final = 100  # from everywhere together: high, since anybody can use it up and lock the owner out
MAX_PER_NETWORK: Final = 50


class TooManyAttempts(Exception):
    """Guessing from here, or at this account, has to wait ``retry_after_s``. Trying earlier will not help."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Too many attempts to sign in. Wait a few minutes, then try again.")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Attempt:
    """One counted attempt to sign in. Call ``succeeded`` if it was right; otherwise it stays counted."""

    pair_key: str | None
    shared_keys: tuple[str, ...]

    def succeeded(self) -> None:
        if pair := self.pair_key:
            in_store(lambda store: store.delete(pair))
        for key in self.shared_keys:
            in_store(lambda store, key=key: _take_back(store, key))  # type: ignore[misc]  # the default binds key


def begin_attempt(account: str | None, address: str, *, steps: int = 1) -> Attempt:
    """Count an attempt to sign in. ``account`` is None where a key is tried. Raises TooManyAttempts.

    ``steps``: how many attempts a success takes back; 2 where one for the password was counted before it.
    """
    network = caller_of(address)
    limits = {_key("network", network): MAX_PER_NETWORK}  # first: who is over it makes no further counters
    pair = None
    if account is not None:
        limits[_key("account", account.casefold())] = MAX_PER_ACCOUNT
        pair = _key("pair", account.casefold(), network)
    shared = tuple(limits)
    for key, limit in (limits | ({pair: MAX_PER_ACCOUNT_AND_ADDRESS} if pair else {})).items():
        if _count(key) > limit:
            raise TooManyAttempts(WINDOW_S)
    return Attempt(pair, shared * steps)


def _key(*parts: str) -> str:
    """A cache key that shows neither name nor address."""
    return "sign-in:" + hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def _count(key: str) -> int:
    return in_store(lambda store: _count_in(store, key))


def _count_in(store: BaseCache, key: str) -> int:
    store.add(key, 0, WINDOW_S)
    try:
        return store.incr(key)
    except ValueError:  # it ended, or was pushed out of the cache, between the two calls
        store.set(key, 1, WINDOW_S)
        return 1


def _take_back(store: BaseCache, key: str) -> None:
    with contextlib.suppress(ValueError):  # its window ended meanwhile
        store.decr(key)


def address_of(request: HttpRequest | Request) -> str:
    """The client's address as the gate resolved it; without the gate (tests) it is resolved here."""
    scope = scope_of(request)
    return str(scope.get("clawdbot.client_ip") or client_ip(scope))
