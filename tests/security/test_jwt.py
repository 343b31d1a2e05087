"""Access tokens, signing keys and refresh tokens (rules A1 to A3)."""

from __future__ import annotations

import base64
import json
import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt as jose
from joserfc.jwk import ECKey, OctKey, RSAKey

from clawdbot_site.security import jwt
from clawdbot_site.security.models import ApiClient, RefreshToken, SigningKey, User
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_ring():
    jwt.ring.forget()
    yield
    jwt.ring.forget()


@pytest.fixture
def user():
    return User.objects.create_user("ada", password="correct horse")


def forged(claims_change=None, header_change=None, key=None, drop=(), algorithms=("ES256",)):
    """A token like ours, but for what is given; signed with our own key unless another is given."""
    kid, own = jwt.ring.signing_key()
    now = int(time.time())
    claims = {"iss": "http://127.0.0.1:18789", "aud": "clawdbot", "sub": "user:00000000-0000-0000-0000-000000000001"}
    claims |= {"scope": "chat", "jti": "j", "iat": now, "nbf": now, "exp": now + 300} | (claims_change or {})
    header = {"alg": "ES256", "typ": "at+jwt", "kid": kid} | (header_change or {})
    claims = {name: value for name, value in claims.items() if name not in drop}
    header = {name: value for name, value in header.items() if name not in drop}
    return jose.encode(header, claims, key or own, algorithms=list(algorithms), default_type=None)


def b64(value) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def header_of(token: str) -> dict:
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))


# -- access tokens --


def test_access_token_says_who_and_what_when_it_is_ours(user):
    token = jwt.issue_access(user, ["chat", "bots:read"])
    claims = jwt.verify_access(token)
    assert (claims.kind, claims.id, claims.scopes) == ("user", user.pk, frozenset({"chat", "bots:read"}))
    assert claims.expires_at - int(time.time()) in (299, 300)
    assert set(header_of(token)) == {"alg", "typ", "kid"}


def test_forging_helper_makes_good_tokens_when_nothing_is_changed():
    assert jwt.verify_access(forged()).scopes == {"chat"}


@pytest.mark.rule("A1")
@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope"])
def test_access_token_is_refused_when_a_claim_is_missing(claim):
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(forged(drop=(claim,)))


@pytest.mark.rule("A1")
@pytest.mark.parametrize("name", ["typ", "kid"])
def test_access_token_is_refused_when_a_header_is_missing(name):
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(forged(drop=(name,)))


@pytest.mark.rule("A1")
@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://elsewhere.example"},
        {"aud": "another"},
        {"exp": 1},
        {"exp": True},
        {"exp": "4000000000"},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"jti": ""},
        {"jti": 7},
        {"sub": "user:7"},
        {"sub": "root:00000000-0000-0000-0000-000000000001"},
        {"sub": 5},
        {"scope": ["admin"]},
    ],
)
def test_access_token_is_refused_when_a_claim_is_wrong(change):
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(forged(change))


@pytest.mark.rule("A1")
@pytest.mark.parametrize(
    "change",
    [
        {"jku": "https://elsewhere.example/keys"},
        {"jwk": ECKey.generate_key("P-256").as_dict(private=False)},
        {"x5u": "https://elsewhere.example/keys"},
        {"typ": "JWT"},
        {"kid": "another"},
    ],
)
def test_access_token_is_refused_when_its_header_is_not_exactly_ours(change):
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(forged(header_change=change))


@pytest.mark.rule("A1")
def test_access_token_is_refused_when_a_foreign_key_signed_it():
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(forged(key=ECKey.generate_key("P-256")))


@pytest.mark.rule("A1")
def test_access_token_is_refused_when_another_algorithm_is_named():
    kid, own = jwt.ring.signing_key()
    public_pem = own.as_pem(private=False)
    tokens = [
        forged(header_change={"alg": "HS256"}, key=OctKey.import_key(b64(public_pem)), algorithms=["HS256"]),
        forged(header_change={"alg": "RS256"}, key=RSAKey.generate_key(2048), algorithms=["RS256"]),
        forged(header_change={"alg": "ES384"}, key=ECKey.generate_key("P-384"), algorithms=["ES384"]),
        f"{b64({'alg': 'none', 'typ': 'at+jwt', 'kid': kid})}.{forged().split('.')[1]}.",
    ]
    refused = []
    for token in tokens:
        with pytest.raises(jwt.TokenError):
            jwt.verify_access(token)
        refused.append(token)
    assert len(refused) == 4


@pytest.mark.rule("A1")
def test_refresh_token_is_refused_when_used_as_access(user):
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(jwt.issue_refresh(user))


def test_access_token_is_refused_when_a_character_is_changed(user):
    head, body, signature = jwt.issue_access(user, ["chat"]).split(".")
    for token in (
        f"{head}.{body[:-2]}AA.{signature}",
        f"{head}.{body}.{signature[:-6]}AAAAAA",
        f"{head}.{body}.",
        f"{head}.{body}",
    ):
        with pytest.raises(jwt.TokenError):
            jwt.verify_access(token)


@pytest.mark.rule("A1")
def test_access_token_ends_when_its_five_minutes_are_over(user):
    now = time.time()
    token = jwt.issue_access(user, ["chat"], now=now)
    assert jwt.verify_access(token, now=now + 299).id == user.pk
    with pytest.raises(jwt.TokenError) as error:
        jwt.verify_access(token, now=now + 306)
    assert error.value.expired


@given(
    st.text()
    | st.builds(
        lambda *parts: ".".join(map(b64, parts)),
        *[st.binary(max_size=60) | st.sampled_from([{}, [], {"alg": "ES256", "typ": "at+jwt", "kid": "k"}])] * 3,
    )
)
@settings(max_examples=200, deadline=None)
def test_nonsense_is_refused_when_sent_as_access_token(text):
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(text)


# -- signing keys --


def test_unknown_key_ids_do_not_become_queries_when_many_come(user, django_assert_max_num_queries):
    jwt.ring.signing_key()
    with django_assert_max_num_queries(1):
        for number in range(50):
            with pytest.raises(jwt.TokenError):
                jwt.verify_access(forged(header_change={"kid": f"made-up-{number}"}))


@pytest.mark.rule("A3")
def test_key_ring_is_published_without_private_halves_when_asked():
    keys = jwt.jwks()["keys"]
    assert sorted(SigningKey.objects.values_list("state", flat=True)) == ["current", "next"]
    assert [sorted(key) for key in keys] == [["alg", "crv", "kid", "kty", "use", "x", "y"]] * 2


def test_private_key_is_not_in_clear_when_stored():
    pem = jwt.ring.signing_key()[1].as_pem(private=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT private_pem FROM security_signingkey")
        stored = [bytes(row[0]) for row in cursor.fetchall()]
    assert len(stored) == 2
    assert all(b"PRIVATE" not in one and pem[40:80] not in one for one in stored)


@pytest.mark.rule("A3")
def test_tokens_are_good_in_every_process_when_keys_are_rotated(user, django_capture_on_commit_callbacks):
    other = jwt.Ring()
    published = {key["kid"] for key in jwt.jwks()["keys"]}
    before = jwt.issue_access(user, ["chat"])
    stale_kid, _stale_key = other.signing_key()
    with django_capture_on_commit_callbacks(execute=True):
        jwt.rotate_signing_keys()
    after = jwt.issue_access(user, ["chat"])

    assert header_of(after)["kid"] != header_of(before)["kid"]
    assert header_of(after)["kid"] in published, "verifiers outside must know the key before it signs"
    assert jwt.verify_access(before).id == jwt.verify_access(after).id == user.pk
    assert other.verifying_key(header_of(after)["kid"], time.time())
    assert {key["kid"] for key in jwt.jwks()["keys"]} > published
    assert stale_kid == header_of(before)["kid"]


@pytest.mark.rule("A3")
@pytest.mark.django_db(transaction=True)
def test_no_valid_token_is_refused_while_keys_rotate_under_traffic(user, monkeypatch):
    """Four processes (rings of their own) issue and check each other's tokens through ten rotations."""
    rings, refused, checked, is_over = [jwt.Ring() for _ in range(4)], [], [], threading.Event()
    signing, published = threading.local(), {key["kid"] for key in jwt.jwks()["keys"]}
    monkeypatch.setattr(jwt, "ring", _RingOfThread(signing, jwt.ring))
    monkeypatch.setattr(jwt, "RING_LIFETIME_S", 0.02)
    monkeypatch.setattr(jwt, "UNKNOWN_KID_EVERY_S", 0.0)  # ten rotations in a second are an attack's pace
    tokens: list[str] = []

    def work(ring: jwt.Ring) -> None:
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
        before, current = published, jwt.rotate_signing_keys()
        published = {key["kid"] for key in jwt.jwks()["keys"]}
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
            jwt.rotate_signing_keys()
    assert [jwt.verify_access(token).id for token in tokens] == [user.pk] * 3
    assert AuditLog.objects.filter(action="signing_key.rotated").count() == 3


@pytest.mark.rule("A3")
def test_previous_key_is_no_longer_believed_when_its_time_is_over(user, django_capture_on_commit_callbacks):
    token = jwt.issue_access(user, ["chat"])
    with django_capture_on_commit_callbacks(execute=True):
        jwt.rotate_signing_keys()
    SigningKey.objects.filter(state="previous").update(not_after=timezone.now() - timedelta(seconds=1))
    jwt.ring.forget()
    with pytest.raises(jwt.TokenError):
        jwt.verify_access(token)
    with django_capture_on_commit_callbacks(execute=True):
        jwt.rotate_signing_keys()
    retired = SigningKey.objects.get(state="retired")
    assert retired.private_pem == ""
    assert retired.kid not in {key["kid"] for key in jwt.jwks()["keys"]}


# -- refresh tokens --


@pytest.mark.rule("A2")
def test_refresh_token_is_good_for_one_use_when_used_in_order(user):
    first = jwt.issue_refresh(user)
    owner, second = jwt.use_refresh(first)
    owner_again, third = jwt.use_refresh(second)
    assert owner == owner_again == user
    assert len({first, second, third}) == 3
    assert not RefreshToken.objects.filter(hash__in=[first, second, third]).exists()


@pytest.mark.rule("A2")
def test_family_is_dead_when_a_refresh_token_is_used_twice(user):
    first = jwt.issue_refresh(user)
    _owner, second = jwt.use_refresh(first)
    with pytest.raises(jwt.TokenError):
        jwt.use_refresh(first)
    with pytest.raises(jwt.TokenError):
        jwt.use_refresh(second)
    assert AuditLog.objects.filter(action="token.reused").count() == 1


def test_other_families_live_when_one_is_revoked(user):
    mine, other = jwt.issue_refresh(user), jwt.issue_refresh(user)
    jwt.revoke_refresh(mine)
    assert jwt.use_refresh(other)[0] == user


@pytest.mark.parametrize("change", ["disabled", "password", "expired", "unknown"])
def test_refresh_token_is_refused_when_the_sign_in_is_no_longer_good(user, change):
    token = jwt.issue_refresh(user)
    if change == "disabled":
        user.is_active = False
    if change == "password":
        user.set_password("another")
    if change == "expired":
        RefreshToken.objects.update(expires_at=timezone.now())
    user.save()
    with pytest.raises(jwt.TokenError):
        jwt.use_refresh("unknown" if change == "unknown" else token)


def test_refresh_token_is_refused_when_its_client_is_revoked():
    client, _key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    token = jwt.issue_refresh(client)
    client.revoked = True
    client.save()
    with pytest.raises(jwt.TokenError):
        jwt.use_refresh(token)


def test_refreshing_does_not_prolong_the_family_when_repeated(user):
    jwt.use_refresh(jwt.issue_refresh(user))
    assert RefreshToken.objects.values("expires_at").distinct().count() == 1


def use_when_unlocked(token):
    """SQLite in memory answers "locked" at once, where a file or PostgreSQL makes the caller wait."""
    for _ in range(500):
        try:
            return jwt.use_refresh(token)[1]
        except jwt.TokenError:
            return None
        except OperationalError:
            time.sleep(0.01)
    raise AssertionError("the database stayed locked")


@pytest.mark.rule("A2")
@pytest.mark.django_db(transaction=True)
def test_at_most_one_wins_when_a_refresh_token_is_used_in_parallel(user):
    token = jwt.issue_refresh(user)
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
        jwt.use_refresh(winners[0])
