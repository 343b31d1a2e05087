"""Who is let in: every HTTP vector, and what the vectors leave out."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.errors import AuthenticationError, PayloadError
from integrations.feishu import crypto
from integrations.feishu.opening import json_object, open_request
from integrations.values import Challenge, Credentials, WebhookRequest

from .conftest import CLOCK, SHARED, credentials, vectors

REASONS = {"verification token": "token", "decrypt": "decryption", "signature missing": "signature"}
SEEN_EARLIER = {"msg-08-plaintext-when-key-set": "decryption"}  # a plain body never comes where a key is set


def request(vector: dict[str, Any]) -> WebhookRequest:
    headers = {name.lower(): value for name, value in vector["input"]["headers"].items()}
    return WebhookRequest(headers, base64.b64decode(vector["input"]["body_base64"]), CLOCK)


def signed(body: bytes, *, key: str = SHARED["encrypt_key"], age_s: float = 0) -> WebhookRequest:
    timestamp, nonce = str(int(CLOCK - age_s)), "583920174"
    headers = {
        "x-lark-request-timestamp": timestamp,
        "x-lark-request-nonce": nonce,
        "x-lark-signature": crypto.event_signature(timestamp, nonce, key, body),
    }
    return WebhookRequest(headers, body, CLOCK)


def sealed(payload: Any) -> bytes:
    return json.dumps({"encrypt": crypto.encrypt(json.dumps(payload).encode(), SHARED["encrypt_key"])}).encode()


def event(**header: str) -> dict[str, Any]:
    known = {"token": SHARED["verification_token"], "app_id": SHARED["app_id"], "event_type": "x"}
    return {"schema": "2.0", "header": known | header, "event": {}}


@pytest.mark.parametrize("vector", vectors("http_request"))
def test_callback_is_opened_as_the_vector_says(vector: dict[str, Any]) -> None:
    own, expect = credentials(**vector["input"]["config"], allow_unsigned=True), vector["expect"]

    if expect["verdict"] == "reject":
        reason = SEEN_EARLIER.get(vector["id"], REASONS[expect["reason"]])
        with pytest.raises(AuthenticationError, match=f"^{reason}:"):
            open_request(request(vector), own)
        return

    opened = open_request(request(vector), own)
    if expect["verdict"] == "challenge":
        assert opened == Challenge(expect["response_json"])
    else:
        assert isinstance(opened, dict)
        header = opened["header"] if "schema" in opened else opened["event"]
        assert (header.get("event_type") or header["type"]) == expect["event"]["event_type"]


@pytest.mark.rule("W2")
def test_unsigned_event_is_refused_when_no_admin_accepted_that() -> None:
    plain = WebhookRequest({}, json.dumps(event()).encode(), CLOCK)

    assert open_request(plain, credentials(encrypt_key="", allow_unsigned=True)) == event()
    with pytest.raises(AuthenticationError, match=r"^signature: it is missing"):
        open_request(plain, credentials(encrypt_key=""))


def test_signature_proves_nothing_when_no_key_is_set() -> None:
    with pytest.raises(AuthenticationError, match=r"^signature: it is missing"):
        open_request(signed(json.dumps(event()).encode(), key=""), credentials(encrypt_key=""))


def test_allow_unsigned_opens_nothing_when_a_key_is_set() -> None:
    unsigned = WebhookRequest({}, sealed(event()), CLOCK)

    with pytest.raises(AuthenticationError, match=r"^signature: it is missing"):
        open_request(unsigned, credentials(allow_unsigned=True))


@pytest.mark.rule("W1")
@pytest.mark.parametrize("missing", ["x-lark-request-timestamp", "x-lark-request-nonce", "x-lark-signature"])
def test_event_is_refused_when_one_header_is_missing(missing: str) -> None:
    whole = signed(sealed(event()))
    headers = {name: value for name, value in whole.headers.items() if name != missing}

    with pytest.raises(AuthenticationError, match=r"^signature:"):
        open_request(WebhookRequest(headers, whole.body, CLOCK), credentials())


@pytest.mark.rule("W1")
@pytest.mark.parametrize(("age_s", "is_taken"), [(0, True), (7 * 3600, True), (9 * 3600, False), (-600, False)])
def test_signed_event_is_refused_when_it_is_stale(age_s: float, is_taken: bool) -> None:
    if is_taken:
        assert open_request(signed(sealed(event()), age_s=age_s), credentials()) == event()
        return
    with pytest.raises(AuthenticationError, match=r"^stale:"):
        open_request(signed(sealed(event()), age_s=age_s), credentials())


@pytest.mark.rule("W1")
def test_altered_body_is_refused() -> None:
    whole = signed(sealed(event()))

    with pytest.raises(AuthenticationError, match=r"^signature:"):
        open_request(WebhookRequest(whole.headers, whole.body + b" ", CLOCK), credentials())


@pytest.mark.rule("W3")
def test_event_for_another_bot_is_refused() -> None:
    with pytest.raises(AuthenticationError, match=r"^app:"):
        open_request(signed(sealed(event(app_id="cli_other"))), credentials())


def test_nothing_is_opened_when_no_token_is_configured() -> None:
    with pytest.raises(AuthenticationError, match=r"^token:"):
        open_request(signed(sealed(event(token=""))), credentials(verification_token=""))


@pytest.mark.rule("W2")
def test_plain_challenge_is_refused_when_a_key_is_set() -> None:
    body = {"challenge": "c", "token": SHARED["verification_token"], "type": "url_verification"}

    with pytest.raises(AuthenticationError, match=r"^decryption:"):
        open_request(WebhookRequest({}, json.dumps(body).encode(), CLOCK), credentials())


@pytest.mark.parametrize("token", [None, 5, ["x"], {}, "", "\ud800", "wröng"])
def test_strange_token_is_refused(token: Any) -> None:
    body = {"challenge": "c", "token": token, "type": "url_verification"}

    with pytest.raises(AuthenticationError, match=r"^token:"):
        open_request(WebhookRequest({}, sealed(body), CLOCK), credentials())


@pytest.mark.parametrize("sealed_value", ["!!", "", "AAAA", "é", "A" * 63, 5, None, ["A"]])
def test_undecryptable_body_is_refused(sealed_value: Any) -> None:
    body = json.dumps({"encrypt": sealed_value}).encode()

    with pytest.raises(AuthenticationError, match=r"^decryption:"):
        open_request(WebhookRequest({}, body, CLOCK), credentials())


@pytest.mark.rule("W4")
@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"a":1} {"b":2}', b'\xef\xbb\xbf{"a":1}', b'{"a":NaN}']
    + [b'{"a":' * depth + b"1" + b"}" * depth for depth in (40, 100_000)]
    + [b'{"a":' + b"9" * 5000 + b"}"],
    ids=lambda body: repr(body[:18]),
)
def test_body_that_is_not_one_shallow_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError):
        open_request(WebhookRequest({}, body, CLOCK), credentials())


def test_length_extended_body_is_refused_although_its_sum_matches() -> None:
    vector = next(p.values[0] for p in vectors("event_signature") if p.id.startswith("sig-35"))
    given_ = vector["input"]
    headers = {
        "x-lark-request-timestamp": given_["timestamp"],
        "x-lark-request-nonce": given_["nonce"],
        "x-lark-signature": given_["signature"],
    }

    with pytest.raises(PayloadError):
        open_request(WebhookRequest(headers, base64.b64decode(given_["body_base64"]), CLOCK), credentials())


def test_characters_that_no_database_takes_are_replaced() -> None:
    assert json_object('{"a\\u0000": ["\\ud800x", {"b": "\\ud83d\\ude00"}]}') == {"a\ufffd": ["\ufffdx", {"b": "😀"}]}


@pytest.mark.rule("W1")
@given(
    st.binary(max_size=200), st.dictionaries(st.sampled_from(["x-lark-signature", "x-lark-request-nonce"]), st.text())
)
def test_no_forged_request_is_ever_opened(body: bytes, headers: dict[str, str]) -> None:
    own: Credentials = credentials(allow_unsigned=True)

    with pytest.raises((AuthenticationError, PayloadError)):
        open_request(WebhookRequest(headers, body, CLOCK), own)
