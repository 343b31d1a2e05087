from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.redaction import redact, redact_value

CANARY = "Q3canaryQ3canaryQ3canaryQ3canary"


@pytest.mark.rule("E10")
@pytest.mark.parametrize(
    "text",
    [
        f"POST /webhooks/feishu/{CANARY}/ 200",
        f"POST /webhooks/dingtalk/{CANARY} 200",
        f"https://site/api/v1/hooks/{CANARY}/?x=1",
        f"https://open.feishu.cn/open-apis/bot/v2/hook/{CANARY}",
        f"https://oapi.dingtalk.com/robot/sendBySession?session={CANARY}",
        f"https://oapi.dingtalk.com/robot/send?access_token={CANARY}&timestamp=1",
        f"wss://open.feishu.cn/ws?device_id=1&access_key={CANARY}&ticket={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"authorization: Api-Key {CANARY}",
        f"'Authorization': 'Basic {CANARY}'",
        f"sent with bearer {CANARY}",
        f"redis://:{CANARY}@redis:6379/0",
        f"postgres://clawdbot:{CANARY}@db/clawdbot",
        f'{{"app_secret": "{CANARY}", "x": 1}}',
        f"{{'password': '{CANARY} with spaces'}}",
        f"tenant_access_token={CANARY}",
        f"FIELD_ENCRYPTION_KEYS rejected, api_key: {CANARY}",
        f"encrypt-key = {CANARY}",
        f"model says: invalid key sk-{CANARY}",
        f"key abcd1234.{CANARY} is unknown",
        f"token t-{CANARY}",
        f"eyJhbGciOiJFUzI1NiJ9.{CANARY}.{CANARY}",
        f"cookie: sessionid={CANARY}; csrftoken={CANARY}",
    ],
)
def test_a_secret_is_gone_when_text_holds_it(text):
    assert "canary" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "reply delivered",
        "GET /api/v1/bots/demo/?page_size=20 200",
        "max_tokens=512 prompt_tokens=3",
        "token expired",
        "connected to 10.0.0.1:6379",
        "https://open.feishu.cn/open-apis/im/v1/messages",
        "2026-11-22T10:00:00.000Z",
        "/webhooks/",
    ],
)
def test_text_stays_when_it_holds_no_secret(text):
    assert redact(text) == text


def test_fields_are_masked_by_name_and_content_when_nested():
    given = {"app_secret": CANARY, "list": [f"sk-{CANARY}"], "count": 3, "ok": True, "nothing": None}

    assert redact_value("extra", given) == {
        "app_secret": "***",
        "list": ["***"],
        "count": 3,
        "ok": True,
        "nothing": None,
    }


def test_a_field_survives_when_it_cannot_be_shown():
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert redact_value("x", Broken()) == "<Broken: RuntimeError>"


@pytest.mark.parametrize("piece", ["a", "a-", "=", "token=", "://a", "&key=", "eyJ", "t-", " ", "'", "/hooks/", "x:"])
def test_redaction_is_quick_when_text_is_long_and_hostile(piece):
    started = time.perf_counter()
    redact(piece * 20_000)

    assert time.perf_counter() - started < 1


@given(st.text())
def test_redaction_never_raises_when_text_is_anything(text):
    assert isinstance(redact(text), str)
    assert "\n" not in redact_value("x", text)
