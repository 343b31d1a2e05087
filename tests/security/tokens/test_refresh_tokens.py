"""Refresh tokens (rule A2): good for one use, and a second one ends the family."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from clawdbot_site.security import jwt, refresh_tokens
from clawdbot_site.security.models import ApiClient, RefreshToken
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db


@pytest.mark.rule("A2")
def test_refresh_token_is_good_for_one_use_when_used_in_order(user):
    first = refresh_tokens.issue_refresh(user)
    owner, second = refresh_tokens.use_refresh(first)
    owner_again, third = refresh_tokens.use_refresh(second)
    assert owner == owner_again == user
    assert len({first, second, third}) == 3
    assert not RefreshToken.objects.filter(hash__in=[first, second, third]).exists()


@pytest.mark.rule("A2")
def test_family_is_dead_when_a_refresh_token_is_used_twice(user):
    first = refresh_tokens.issue_refresh(user)
    _owner, second = refresh_tokens.use_refresh(first)
    with pytest.raises(jwt.TokenError):
        refresh_tokens.use_refresh(first)
    with pytest.raises(jwt.TokenError):
        refresh_tokens.use_refresh(second)
    assert AuditLog.objects.filter(action="token.reused").count() == 1


def test_other_families_live_when_one_is_revoked(user):
    mine, other = refresh_tokens.issue_refresh(user), refresh_tokens.issue_refresh(user)
    refresh_tokens.revoke_refresh(mine)
    assert refresh_tokens.use_refresh(other)[0] == user


@pytest.mark.parametrize("change", ["disabled", "password", "expired", "unknown"])
def test_refresh_token_is_refused_when_the_sign_in_is_no_longer_good(user, change):
    token = refresh_tokens.issue_refresh(user)
    if change == "disabled":
        user.is_active = False
    if change == "password":
        user.set_password("another")
    if change == "expired":
        RefreshToken.objects.update(expires_at=timezone.now())
    user.save()
    with pytest.raises(jwt.TokenError):
        refresh_tokens.use_refresh("unknown" if change == "unknown" else token)


def test_refresh_token_is_refused_when_its_client_is_revoked():
    client, _key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    token = refresh_tokens.issue_refresh(client)
    client.revoked = True
    client.save()
    with pytest.raises(jwt.TokenError):
        refresh_tokens.use_refresh(token)


def test_refreshing_does_not_prolong_the_family_when_repeated(user):
    refresh_tokens.use_refresh(refresh_tokens.issue_refresh(user))
    assert RefreshToken.objects.values("expires_at").distinct().count() == 1


def use_when_unlocked(token):
    """SQLite in memory answers "locked" at once, where a file or PostgreSQL makes the caller wait."""
    for _ in range(500):
        try:
            return refresh_tokens.use_refresh(token)[1]
        except jwt.TokenError:
            return None
        except OperationalError:
            time.sleep(0.01)
    raise AssertionError("the database stayed locked")


@pytest.mark.rule("A2")
@pytest.mark.django_db(transaction=True)
def test_at_most_one_wins_when_a_refresh_token_is_used_in_parallel(user):
    token = refresh_tokens.issue_refresh(user)
    results, barrier = [], threading.Barrier(4)

    def use() -> None:
        barrier.wait()
        results.append(use_when_unlocked(token))
        connection.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winners = [one for one in results if isinstance(one, str)]
    assert len(winners) == 1, results
    with pytest.raises(jwt.TokenError):
        refresh_tokens.use_refresh(winners[0])
