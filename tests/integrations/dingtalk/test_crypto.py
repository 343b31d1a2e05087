from __future__ import annotations

from typing import Any

import pytest

from integrations.dingtalk.crypto import WINDOW_MS, callback_signature, verify_callback
from integrations.errors import AuthenticationError

from .conftest import vectors

NOW_MS = 1_760_000_000_000
SECRET = "an-app-secret"


def headers(timestamp: str, sign: str | None = None) -> dict[str, str]:
    return {"timestamp": timestamp, "sign": sign or callback_signature(timestamp, SECRET)}


@pytest.mark.parametrize("vector", vectors("robot_callback_sign"))
def test_signature_is_dingtalks_own_when_computed_from_its_sample(vector: dict[str, Any]) -> None:
    given = vector["input"]
    assert callback_signature(given["timestamp"], given["app_secret"]) == vector["expected"]["sign"]


@pytest.mark.rule("W1")
@pytest.mark.parametrize("vector", vectors("robot_callback_verify"))
def test_callback_is_judged_as_the_vector_says_when_verified(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    try:
        verify_callback(given["headers"], given["app_secret"], given["now_ms"])
        verdict = "accepted"
    except AuthenticationError as problem:
        verdict = str(problem).split(":")[0].replace(" ", "_")
    assert verdict == expected.get("reason", "accepted")


@pytest.mark.rule("W1")
@pytest.mark.parametrize(
    ("skew_ms", "is_fresh"), [(WINDOW_MS, True), (WINDOW_MS + 1, False), (-WINDOW_MS, True), (-WINDOW_MS - 1, False)]
)
def test_window_is_one_hour_when_the_clock_is_ahead_or_behind(skew_ms: int, is_fresh: bool) -> None:
    try:
        verify_callback(headers(str(NOW_MS + skew_ms)), SECRET, NOW_MS)
        accepted = True
    except AuthenticationError:
        accepted = False
    assert accepted is is_fresh


@pytest.mark.parametrize(
    "timestamp", ["１７６００００００００００", "-1760000000000", "1760000000000.0", "1e12", "", "9" * 5000]
)
def test_callback_is_refused_when_the_timestamp_is_no_ascii_number(timestamp: str) -> None:
    with pytest.raises(AuthenticationError):
        verify_callback(headers(timestamp), SECRET, NOW_MS)


@pytest.mark.parametrize("sign", ["é", "\ud800", "签名"])
def test_callback_is_refused_when_the_sign_is_not_ascii(sign: str) -> None:
    with pytest.raises(AuthenticationError):
        verify_callback(headers(str(NOW_MS), sign), SECRET, NOW_MS)


def test_callback_is_refused_when_no_secret_is_configured() -> None:
    forged = {"timestamp": str(NOW_MS), "sign": callback_signature(str(NOW_MS), "")}
    with pytest.raises(AuthenticationError):
        verify_callback(forged, "", NOW_MS)
