"""Frames of DingTalk's Stream: text to Frame, Frame to acknowledgement. Pure. Source: PROTOCOL.md, "Stream: frames"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from integrations.dingtalk.payload import as_text, strict_object
from integrations.errors import PayloadError

BOT_TOPIC = "/v1.0/im/bot/messages/get"
CARD_TOPIC = "/v1.0/card/instances/callback"
TAKEN, BAD, UNKNOWN = 200, 400, 404
_WORDS = {TAKEN: "OK", BAD: "bad request", UNKNOWN: "no such topic"}


@dataclass(frozen=True, slots=True)
class Frame:
    """``kind`` is SYSTEM, CALLBACK or EVENT; ``id`` names it in the acknowledgement, empty where none is possible.

    ``event``, ``event_id`` and ``company`` are those of an EVENT: its data does not say what happened, nor to whom.
    """

    kind: str
    topic: str
    id: str
    data: str = field(repr=False)
    event: str = ""
    event_id: str = ""
    company: str | None = None


def read(text: str | bytes) -> Frame | None:
    """None for what is no frame: DingTalk sends oddities, and no connection should end for one."""
    try:
        given = strict_object(text if isinstance(text, bytes) else text.encode())
    except PayloadError:
        return None
    headers = given.get("headers")
    headers = headers if isinstance(headers, Mapping) else {}
    data = given.get("data")
    return Frame(
        as_text(given.get("type")),
        as_text(headers.get("topic")),
        as_text(headers.get("messageId")),
        data if isinstance(data, str) else json.dumps(data or {}),
        as_text(headers.get("eventType")),
        as_text(headers.get("eventId")),
        as_text(headers.get("eventCorpId")) or None,
    )


def acknowledge(frame: Frame, code: int = TAKEN, data: Any = None) -> str:
    """``data`` travels as JSON in a string; a ping's comes back as it was."""
    body = frame.data if frame.topic == "ping" else json.dumps(data)
    headers = {"messageId": frame.id, "contentType": "application/json"}
    return json.dumps({"code": code, "headers": headers, "message": _WORDS[code], "data": body})
