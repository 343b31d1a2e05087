"""Tokens while Redis is lost: each process keeps its own, and nobody waits for Redis at every call."""

from __future__ import annotations

import time

import pytest

from integrations.tokens import CachedTokens
from tests.servers.lost_redis import lost_redis, production_shape

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("kind", ["hanging", "gone"])
def test_tokens_are_kept_by_the_process_and_redis_is_waited_for_once(kind: str) -> None:
    tokens, key = CachedTokens(), f"app:{time.time_ns()}"
    with lost_redis(kind):
        started = time.monotonic()
        with tokens.lock(key):
            before = tokens.get(key)
            tokens.set(key, "secret", 60)
        after = tokens.get(key)
        tokens.delete(key)

        assert (before, after, tokens.get(key)) == (None, "secret", None)
        assert time.monotonic() - started < 1.9


def test_tokens_are_shared_through_redis_when_it_is_there(redis_url: str) -> None:
    tokens, key = CachedTokens(), f"app:{time.time_ns()}"
    with production_shape(redis_url):
        tokens.set(key, "secret", 60)
        assert tokens.get(key) == "secret"

    with lost_redis("gone"):
        assert tokens.get(key) is None
