"""Messages as Feishu sends them, and how they are read."""

from __future__ import annotations

import json
from typing import Any

from integrations.feishu.events import parse
from integrations.values import IncomingMessage

from .conftest import SHARED, credentials

BOT = SHARED["bot_open_id"]


def message(content: Any, kind: str = "text", chat_type: str = "p2p", **fields: Any) -> dict[str, Any]:
    body = {
        "message_id": "om_1",
        "chat_id": "oc_1",
        "chat_type": chat_type,
        "message_type": kind,
        "create_time": "1790000000123",
        "content": content if isinstance(content, str) else json.dumps(content),
    }
    sender = {"sender_id": {"open_id": "ou_1", "union_id": "on_1", "user_id": None}, "sender_type": "user"}
    header = {"event_type": "im.message.receive_v1", "tenant_key": "tenant1", "app_id": SHARED["app_id"]}
    return {"schema": "2.0", "header": header, "event": {"sender": sender, "message": body | fields}}


def mention(number: int, open_id: str, name: str = "Ben") -> dict[str, Any]:
    return {"key": f"@_user_{number}", "id": {"open_id": open_id, "union_id": "", "user_id": None}, "name": name}


def read(payload: dict[str, Any], own_id: str = BOT) -> IncomingMessage:
    parsed = parse(payload, credentials(own_id=own_id))
    assert isinstance(parsed, IncomingMessage)
    return parsed
