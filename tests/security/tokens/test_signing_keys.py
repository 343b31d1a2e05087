"""Signing keys (rule A3): rotated without a valid token being refused, published, retired."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from clawdbot_site.security import jwt, signing_keys
from clawdbot_site.security.models import SigningKey
from monitoring.models import AuditLog

from .forging import forged, header_of

pytestmark = pytest.mark.django_db


def test_unknown_key_ids_do_not_become_queries_when_many_come(user, django_assert_max_num_queries):
    signing_keys.ring.signing_key()
    with django_assert_max_num_queries(1):
        for number in range(50):
            with pytest.raises(jwt.TokenError):
                jwt.verify_access(forged(header_change={"kid": f"made-up-{number}"}))


@pytest.mark.rule("A3")
def test_key_ring_is_published_without_private_halves_when_asked():
    keys = signing_keys.jwks()["keys"]
    assert sorted(SigningKey.objects.values_list("state", flat=True)) == ["current", "next"]
    assert [sorted(key) for key in keys] == [["alg", "crv", "kid", "kty", "use", "x", "y"]] * 2


def test_private_key_is_not_in_clear_when_stored():
    pem = signing_keys.ring.signing_key()[1].as_pem(private=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT private_pem FROM security_signingkey")
        stored = [bytes(row[0]) for row in cursor.fetchall()]
    assert len(stored) == 2
    assert all(b"PRIVATE" not in one and pem[40:80] not in one for one in stored)


@pytest.mark.rule("A3")
def test_tokens_are_good_in_every_process_when_keys_are_rotated(user, django_capture_on_commit_callbacks):
    other = signing_keys.Ring()
    published = {key["kid"] for key in signing_keys.jwks()["keys"]}
    before = jwt.issue_access(user, ["chat"])
    stale_kid, _stale_key = other.signing_key()
    with django_capture_on_commit_callbacks(execute=True):
        signing_keys.rotate_signing_keys()
    after = jwt.issue_access(user, ["chat"])

    assert header_of(after)["kid"] != header_of(before)["kid"]
    assert header_of(after)["kid"] in published, "verifiers outside must know the key before it signs"
    assert jwt.verify_access(before).id == jwt.verify_access(after).id == user.pk
    assert other.verifying_key(header_of(after)["kid"], time.time())
    assert {key["kid"] for key in signing_keys.jwks()["keys"]} > published
    assert stale_kid == header_of(before)["kid"]


@pytest.mark.rule("A3")
@pytest.mark.django_db(transaction=True)
def test_no_valid_token_is_refused_while_keys_rotate_under_traffic(user, monkeypatch):
    """Four processes (rings of their own) issue and check each other's tokens through ten rotations."""
    rings, refused, checked, is_over = [signing_keys.Ring() for _ in range(4)], [], [], threading.Event()
    signing, published = threading.local(), {key["kid"] for key in signing_keys.jwks()["keys"]}
    monkeypatch.setattr(signing_keys, "ring", _RingOfThread(signing, signing_keys.ring))
    monkeypatch.setattr(signing_keys, "RING_LIFETIME_S", 0.02)
    monkeypatch.setattr(signing_keys, "UNKNOWN_KID_EVERY_S", 0.0)  # ten rotations in a second are an attack's pace
    tokens: list[str] = []

    def work(ring: signing_keys.Ring) -> None:
        signing.ring = ring
        while not is_over.is_set():
            tokens.append(jwt.issue_access(user, ["chat"]))
            for token in tokens[-8:]:
                try:
                    checked.append(jwt.verify_access(token).id)
                except jwt.TokenError as error:
                    refused.append(str(error))
        connection.close()

    threads = [threading.Thread(target=work, args=(ring,)) for ring in rings]
    for thread in threads:
        thread.start()
    for _ in range(10):
        before, current = published, signing_keys.rotate_signing_keys()
        published = {key["kid"] for key in signing_keys.jwks()["keys"]}
        assert current.kid in before, "published before it signed"
        assert before < published, "previous ones still, and a next one"
        done = len(checked)
        while len(checked) < done + 40 and not refused:
            time.sleep(0.001)
    is_over.set()
    for thread in threads:
        thread.join()
    assert refused == []
    assert len({header_of(token)["kid"] for token in tokens}) > 5


class _RingOfThread:
    """Stands for the process's ring: each thread has one of its own, as each process has."""

    def __init__(self, own, default):
        self._own, self._default = own, default

    def __getattr__(self, name):
        return getattr(getattr(self._own, "ring", self._default), name)


def test_quick_rotations_keep_every_living_token_when_done_three_times(user, django_capture_on_commit_callbacks):
    tokens = []
    for _ in range(3):
        tokens.append(jwt.issue_access(user, ["chat"]))
        with django_capture_on_commit_callbacks(execute=True):
            signing_keys.rotate_signing_keys()
    assert [jwt.verify_access(token).id for token in tokens] == [user.pk] * 3
    assert AuditLog.objects.filter(action="signing_key.rotated").count() == 3


@pytest.mark.rule("A3")
def test_previous_key_is_no_longer_believed_when_its_time_is_over(user, django_capture_on_commit_callbacks):
    token = jwt.issue_access(user, ["chat"])
    with django_capture_on_commit_callbacks(execute=True):
        signing_keys.rotate_signing_keys()
    SigningKey.objects.filter(state="previous").update(not_after=timezone.now() - timedelta(seconds=1))
    signing_keys.ring.forget()
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(token)
    with django_capture_on_commit_callbacks(execute=True):
        signing_keys.rotate_signing_keys()
    retired = SigningKey.objects.get(state="retired")
    assert retired.private_pem == ""
    assert retired.kid not in {key["kid"] for key in signing_keys.jwks()["keys"]}
