"""DingTalk's limits per app, chat, card and address, and what its errors say about the calls to come. Pure.

Source: PROTOCOL.md, "Rates and quotas".
"""

from __future__ import annotations

from typing import Final

from integrations.dingtalk.refusals import Refused
from integrations.errors import PlatformError
from integrations.pacing import Bucket, Limit
from integrations.traffic import Call, Verdict
from integrations.values import Credentials

SESSION, TO_USER, TO_GROUP = "session", "batchSend", "send"  # the labels in the metrics
CREATE, STREAM = "createAndDeliver", "streaming"

API: Final = Limit(burst=5, interval_s=1 / 15)  # 20 in any second, for each API
CHAT: Final = Limit(burst=20, interval_s=3.0)  # 20 a minute, the figure of custom robots: none is documented here
CARD: Final = Limit(burst=5, interval_s=1.0)  # advised, not documented
ADDRESS: Final = Limit(burst=2_000, interval_s=1 / 400)  # 10,000 in any 20 s; more blocks the address for 5 minutes


def address(host: str) -> Bucket:
    """What all calls of this server to a host share."""
    return Bucket("address", f"dingtalk:{host}:address", ADDRESS)


def call(credentials: Credentials, name: str, place: str = "") -> Call:
    """The call ``name``; ``place`` is the chat of a session, or the card that is written on."""
    host = f"dingtalk:{credentials.api_url}"
    own_address = address(credentials.api_url)
    if name == SESSION:
        return Call(name, (Bucket("chat", f"{host}:{credentials.app_id}:chat:{place}", CHAT), own_address), "webhook")
    api = Bucket("api", f"{host}:{credentials.app_id}:{name}", API)
    card = (Bucket("card", f"{host}:card:{place}", CARD),) if name == STREAM else ()
    return Call(name, (api, *card, own_address))


def judge(error: PlatformError) -> Verdict:
    """A lost answer may be billed; a refused pace, an unreached host and a broken app are not."""
    if not isinstance(error, Refused):
        return Verdict(is_app_broken=True, is_billed=True)
    return Verdict(
        is_app_broken=error.meaning == "app",
        is_billed=error.meaning == "",
        is_used_up=error.meaning == "quota",
        full={"address": "address", "chat rate": "chat", "rate": "api"}.get(error.meaning, ""),
    )
