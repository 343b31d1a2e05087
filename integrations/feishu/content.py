"""What a person wrote: the ``content`` of a received message as readable text and attachments.

Pure. Content is JSON inside JSON; a kind or an element that we do not know yields nothing, never an error.
Source: PROTOCOL.md, "Received content".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from integrations.base import Attachment
from integrations.errors import PayloadError
from integrations.feishu.opening import json_object

Json = Mapping[str, Any]

_FILES: Mapping[str, tuple[Literal["image", "file", "audio", "video"], str]] = {
    "image": ("image", "image_key"),
    "img": ("image", "image_key"),
    "file": ("file", "file_key"),
    "audio": ("audio", "file_key"),
    "media": ("video", "file_key"),
}  # stickers and folders cannot be fetched


@dataclass(frozen=True, slots=True)
class Content:
    """Readable text, with the platform's mention tokens still in it, and the files that came along."""

    text: str = ""
    attachments: tuple[Attachment, ...] = ()


def read(message_type: str, content: str) -> Content:
    """Read a message's content; what holds no text for us has an empty one."""
    try:
        body = json_object(content)
    except PayloadError:
        return Content()
    if message_type == "text":
        return Content(_string(body, "text"))
    if message_type == "post":
        return _post(body)
    return Content("", tuple(_attachment(message_type, body)))


def _post(body: Json) -> Content:
    """A rich text: title and rows, with or without a locale level above them."""
    post = body if "content" in body else next((v for v in body.values() if isinstance(v, dict)), {})
    rows = [[e for e in row if isinstance(e, dict)] for row in _list(post.get("content")) if isinstance(row, list)]
    lines = [_string(post, "title"), *("".join(map(_readable, row)) for row in rows)]
    files = [file for row in rows for element in row for file in _attachment(_string(element, "tag"), element)]
    return Content("\n".join(lines).strip(), tuple(files))


def _readable(element: Json) -> str:
    text = _string(element, "text")
    match element.get("tag"):
        case "a":
            href = _string(element, "href")
            return text if not href or text == href else f"{text} ({href})"
        case "at":
            return _mention(element)
        case "code_block":
            return f"\n```{_string(element, 'language').lower()}\n{text.rstrip()}\n```\n"
        case "emotion":
            return f"[{_string(element, 'emoji_type')}]"
        case "hr":
            return "\n---\n"
    return text


def _mention(element: Json) -> str:
    """The token that ``mentions`` resolves, or the bare name where the post carries none."""
    token = _string(element, "user_id")
    if token in ("all", "@all"):
        return "@_all"
    return token if token.startswith("@_") else f"@{_string(element, 'user_name')}"


def _attachment(kind: str, body: Json) -> Iterator[Attachment]:
    if kind not in _FILES:
        return
    sort, key = _FILES[kind]
    if _string(body, key):
        yield Attachment(sort, _string(body, key), _string(body, "file_name"))


def _string(source: Json, name: str) -> str:
    value = source.get(name)
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
