"""Feishu's limits per app, chat and card, and what its errors say about the calls to come. Pure.

Source: PROTOCOL.md, "Rates".
"""

from __future__ import annotations

from typing import Final

from integrations.errors import PlatformError, TooLarge
from integrations.feishu.refusals import RATE_LIMITED, TOKEN_REFUSED, FeishuError
from integrations.pacing import Bucket, Limit
from integrations.traffic import Call, Verdict
from integrations.values import Credentials

API: Final = Limit(burst=34, interval_s=1 / 16)  # 50 in any second and 1,000 in any minute are allowed
CHAT: Final = Limit(burst=2, interval_s=1 / 3)  # 5 in any second, shared by all bots of the chat
CARD: Final = Limit(burst=5, interval_s=1 / 5)  # 10 in any second

_CHAT_FULL = frozenset({230020, 11232, 11233, 11247})
_USED_UP = 99991403
_APP_BROKEN = TOKEN_REFUSED | {10003, 10014, 10015, 230006, 99991401, 99991673}


def call(credentials: Credentials, name: str, *, chat_id: str = "", card_id: str = "") -> Call:
    """The call ``name``; with the chat that gets a message, or the card that is written on."""
    host = f"feishu:{credentials.api_url}"
    buckets = [Bucket("api", f"{host}:{credentials.app_id}:{name}", API)]
    if chat_id:
        buckets.append(Bucket("chat", f"{host}:chat:{chat_id}", CHAT))
    if card_id:
        buckets.append(Bucket("card", f"{host}:card:{card_id}", CARD))
    return Call(name, tuple(buckets))


def judge(error: PlatformError) -> Verdict:
    """A lost answer may be billed; a refused pace, an unreached host and a broken app are not."""
    code = error.code if isinstance(error, FeishuError) else 0
    is_unsure = isinstance(error, FeishuError) and not error.is_refusal
    is_app_broken = code in _APP_BROKEN or (code == 0 and not isinstance(error, TooLarge))
    return Verdict(
        is_app_broken=is_app_broken,
        is_billed=is_unsure or not (is_app_broken or code in RATE_LIMITED or code == _USED_UP),
        is_used_up=code == _USED_UP,
        full="chat" if code in _CHAT_FULL else "api" if code in RATE_LIMITED else "",
    )
