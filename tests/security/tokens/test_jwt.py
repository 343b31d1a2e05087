"""Access tokens (rule A1): good as they are issued, and refused when anything about them is changed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, RSAKey

from clawdbot_site.security import jwt, refresh_tokens, signing_keys

from .forging import b64, forged, header_of

pytestmark = pytest.mark.django_db


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
    kid, own = signing_keys.ring.signing_key()
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
        jwt.verify_access(refresh_tokens.issue_refresh(user))


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
