"""That no vector is left out, and what becomes of those that no other file runs."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from integrations.errors import AuthenticationError
from integrations.feishu.opening import open_request
from integrations.values import WebhookRequest

from .conftest import CLOCK, VECTOR_FILE, credentials, vectors


def test_every_kind_of_vector_is_run() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    kinds = {vector["kind"] for vector in VECTOR_FILE["vectors"]}

    assert sorted(kind for kind in kinds if f'vectors("{kind}")' not in tests) == []
    assert len(VECTOR_FILE["vectors"]) == 78


@pytest.mark.parametrize("encrypt_key", ["", "clawd-encrypt-key-for-tests-01"])
@pytest.mark.parametrize("vector", vectors("card_v1_signature"))
def test_old_card_callback_is_refused_whether_it_is_genuine_or_not(vector: dict[str, Any], encrypt_key: str) -> None:
    """SHA-1 with a token that travels in clear proves too little; our cards do not come back by it."""
    given, expect = vector["input"], vector["expect"]
    body = base64.b64decode(given["body_base64"])
    signed = f"{given['timestamp']}{given['nonce']}{given['verification_token']}".encode() + body
    assert (hashlib.sha1(signed).hexdigest() == given["signature"]) is expect["valid"]
    headers = {
        "x-lark-request-timestamp": given["timestamp"],
        "x-lark-request-nonce": given["nonce"],
        "x-lark-signature": given["signature"],
    }
    own = credentials(encrypt_key=encrypt_key, verification_token=given["verification_token"], allow_unsigned=True)

    with pytest.raises(AuthenticationError):
        open_request(WebhookRequest(headers, body, CLOCK), own)
