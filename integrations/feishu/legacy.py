"""Messages in the form of schema 1.0, which old apps still have subscribed. A copy in the new form counts as a repeat.

Pure. Texts alone; other kinds are ``unsupported``. Source: PROTOCOL.md, "Events of schema 1.0".
"""

from __future__ import annotations

import re
from typing import Final

from integrations.feishu.fields import Json, required, seconds, text_of
from integrations.values import Inbound, IncomingMessage, Quoted, ReplyTarget

EVENT: Final = "message"
_AT: Final = re.compile(r'<at (?:open_id|user_id)="[^"<>]*">(@?)([^<>]*)</at>')


def read(event: Json, payload: Json) -> Inbound:
    message_id, sender_id = required(event, "open_message_id"), required(event, "open_id")
    is_direct = event.get("chat_type") == "private"
    parent_id = text_of(event.get("parent_id"))
    text = text_of(event.get("text_without_at_bot")) or text_of(event.get("text"))
    text = _AT.sub(r"@\2", text).strip() if event.get("msg_type") == "text" else ""
    return IncomingMessage(
        message_id=message_id,
        text=text,
        sender_id=sender_id,
        target=ReplyTarget(
            chat_id=required(event, "open_chat_id"),
            chat_type="direct" if is_direct else "group",
            message_id=message_id,
            sender_id=sender_id,
        ),
        kind="text" if text else "unsupported",
        is_addressed=is_direct or event.get("is_mention") is True,
        sent_at_s=seconds(text_of(payload.get("ts")).partition(".")[0]),
        tenant_id=text_of(event.get("tenant_key")),
        quoted=Quoted(parent_id) if parent_id else None,
    )
