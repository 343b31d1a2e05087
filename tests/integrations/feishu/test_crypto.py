"""Opening, sealing and signing against the protocol's vectors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from integrations.feishu import crypto

from .conftest import CLOCK, vectors


@pytest.mark.parametrize("vector", vectors("aes_decrypt"))
def test_sealed_body_opens_as_the_vector_says(vector: dict[str, Any]) -> None:
    sealed, key, expect = vector["input"]["encrypt"], vector["input"]["encrypt_key"], vector["expect"]

    if not expect["ok"]:
        with pytest.raises(ValueError):
            crypto.decrypt(sealed, key)
        return

    plaintext = expect["plaintext"].encode()
    assert crypto.decrypt(sealed, key) == plaintext
    assert crypto.encrypt(plaintext, key, iv=base64.b64decode(sealed)[:16]) == sealed


@pytest.mark.parametrize("vector", vectors("event_signature"))
def test_signature_matches_as_the_vector_says(vector: dict[str, Any]) -> None:
    given, expect = vector["input"], vector["expect"]
    body = base64.b64decode(given["body_base64"])
    timestamp, nonce, key = given["timestamp"], given["nonce"], given["encrypt_key"]

    matches = crypto.event_signature(timestamp, nonce, key, body) == given["signature"]
    proves = crypto.is_signed(timestamp, nonce, given["signature"], key, body)

    shifted = vector["id"].startswith("sig-34")  # caught by the timestamp's form; sig-35 by the strict JSON
    assert matches is expect["valid"]
    assert proves is (expect["valid"] and expect.get("counts_as_authenticated", True) and not shifted)


def test_sealing_twice_gives_two_texts() -> None:
    assert crypto.encrypt(b"{}", "key") != crypto.encrypt(b"{}", "key")


@pytest.mark.parametrize(
    ("age_s", "is_fresh"), [(0, True), (8 * 3600, True), (8 * 3600 + 1, False), (-300, True), (-301, False)]
)
def test_freshness_reaches_eight_hours_back_and_five_minutes_ahead(age_s: float, is_fresh: bool) -> None:
    assert crypto.is_fresh(str(int(CLOCK - age_s)), CLOCK) is is_fresh


@pytest.mark.parametrize("strange", ["17900000001", "179000000", "", "１７９０００００００", "1790000000\n"])
def test_signature_proves_nothing_when_the_timestamp_is_not_ten_digits(strange: str) -> None:
    signature = crypto.event_signature(strange, "n", "key", b"{}")

    assert not crypto.is_signed(strange, "n", signature, "key", b"{}")
