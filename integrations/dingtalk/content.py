"""What a message says: its text, the files that came along, the message it answers to. Pure.

Source: PROTOCOL.md, "Message kinds" and "Quoted messages".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from integrations.dingtalk.payload import Json, as_name, as_object, as_text
from integrations.values import Attachment, Quoted


@dataclass(frozen=True, slots=True)
class Said:
    text: str = ""
    attachments: tuple[Attachment, ...] = ()

    @property
    def is_something(self) -> bool:
        return bool(self.text or self.attachments)


def said(payload: Json) -> Said:
    """Of a message's own object. Nothing for kinds that only DingTalk's clients can show."""
    content = as_object(payload.get("content"))
    match payload.get("msgtype"):
        case "text":
            text = as_object(payload.get("text")).get("content", payload.get("content"))
            return Said(as_text(text).strip())
        case "richText":
            return _rich_text(content.get("richText"))
        case "audio":  # DingTalk wrote down what was said; the sound itself is needed only where it could not
            text = as_text(content.get("recognition")).strip()
            return Said(text, () if text else _attachments("audio", content))
        case "picture":
            return Said("", _attachments("image", content))
        case "file":
            return Said("", _attachments("file", content))
        case "video":
            return Said("", _attachments("video", content))
        case _:
            return Said()


def quoted(payload: Json) -> Quoted | None:
    """The message that this one answers to; what the bot said itself comes without its words."""
    text = as_object(payload.get("text"))
    own_key = as_name(payload, "originalProcessQueryKey")
    original = as_object(text.get("repliedMsg") or payload.get("repliedMsg"))
    message_id = own_key or as_name(original, "msgId") or as_name(payload, "originalMsgId")
    if not message_id:
        return None
    found = _said_then(original)
    sender = as_text(original.get("senderId"))
    is_own = bool(own_key) or (bool(sender) and sender == payload.get("chatbotUserId"))
    return Quoted(message_id, found.text, found.attachments, is_own=is_own, is_complete=found.is_something)


def _said_then(original: Json) -> Said:
    """``content`` has the shape that ``msgType`` had when it was said; a text's is ``{"text": ...}``, or bare."""
    given = original.get("content")
    content = as_object(given)
    bare = given if isinstance(given, str) and not content else ""
    text = content.get("text", content.get("content", bare))
    return said({"msgtype": original.get("msgType"), "content": given, "text": {"content": text}})


def _rich_text(runs: Any) -> Said:
    """Runs of text stand side by side; a picture between them ends a line."""
    text = ""
    attachments: tuple[Attachment, ...] = ()
    for run in runs if isinstance(runs, list) else ():
        run = as_object(run)
        pictures = _attachments("image", run) if run.get("type") == "picture" else ()
        attachments += pictures
        text += "\n" if pictures else as_text(run.get("text"))
    return Said(text.strip(), attachments)


def _attachments(kind: Any, content: Json) -> tuple[Attachment, ...]:
    key = as_text(content.get("downloadCode")) or as_text(content.get("pictureDownloadCode"))
    return (Attachment(kind, key, as_text(content.get("fileName"))),) if key else ()
