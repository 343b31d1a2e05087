"""What a person wrote: the ``content`` of a received message as readable text and attachments.

Pure. Content is JSON inside JSON; a kind or an element that we do not know yields nothing, never an error.
Source: PROTOCOL.md, "Received content".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.utils.translation import gettext as _

from integrations.errors import PayloadError
from integrations.feishu.fields import Json, list_of, object_of, text_of
from integrations.feishu.opening import json_object
from integrations.values import Attachment

FORWARD: Final = "merge_forward"
MANY_ELEMENTS: Final = 2_000

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


@dataclass(frozen=True, slots=True)
class Resource:
    """A file as Feishu gives it out: by its key together with the very message that holds it."""

    message_id: str
    file_key: str
    type: Literal["image", "file"]

    def packed(self) -> str:
        return f"{self.type}/{self.message_id}/{self.file_key}"

    @classmethod
    def unpacked(cls, key: str) -> Resource:
        """Raises ValueError for what was not packed here."""
        kind, message_id, file_key = key.split("/", 2)
        if kind not in ("image", "file") or not (message_id and file_key):
            raise ValueError("no file of Feishu")
        return cls(message_id, file_key, "image" if kind == "image" else "file")


def read(message_type: str, content: str, message_id: str = "") -> Content:
    """Read a message's content; what holds no text for us has an empty one."""
    try:
        body = json_object(content)
    except PayloadError:
        return Content()
    if message_type in ("post", "interactive"):
        return _rich(body, message_id)
    if reader := _TEXTS.get(message_type):
        return Content(reader(body))
    return Content("", tuple(_attachment(message_type, body, message_id)))


def _location(body: Json) -> str:
    place = text_of(body.get("name"))
    latitude, longitude = (str(body.get(name) or "") for name in ("latitude", "longitude"))
    where = f" ({latitude}, {longitude})" if latitude and longitude else ""
    return _("[Location: %(place)s]") % {"place": f"{place}{where}".strip()} if place or where else ""


def _sticker(body: Json) -> str:
    return _("[Sticker]") if body.get("file_key") else ""


_TEXTS: Final[Mapping[str, Callable[[Json], str]]] = {
    "text": lambda body: text_of(body.get("text")),
    "location": _location,
    "sticker": _sticker,
    FORWARD: lambda _body: _("[Forwarded messages]"),
}


def _rich(body: Json, message_id: str) -> Content:
    """A post or a card: title and rows, with or without a locale level above them. Cards call the rows ``elements``."""
    is_bare = "content" in body or "elements" in body
    post = body if is_bare else next((v for v in body.values() if isinstance(v, dict)), {})
    rows = [_elements(row) for row in list_of(post.get("content") or post.get("elements"))[:MANY_ELEMENTS]]
    lines = [text_of(post.get("title")), *("".join(map(_readable, row)) for row in rows)]
    files = [file for row in rows for element in row for file in _of_element(element, message_id)]
    return Content("\n".join(lines).strip(), tuple(files))


def _elements(row: Any) -> list[Json]:
    return [element for element in list_of(row if isinstance(row, list) else [row]) if isinstance(element, dict)]


def _of_element(element: Json, message_id: str) -> Iterator[Attachment]:
    return _attachment(text_of(element.get("tag")), element, message_id)


def _readable(element: Json) -> str:
    text = text_of(element.get("text"))
    match element.get("tag"):
        case "a":
            href = text_of(element.get("href"))
            return text if not href or text == href else f"{text} ({href})"
        case "at":
            return _mention(element)
        case "code_block":
            return f"\n```{text_of(element.get('language')).lower()}\n{text.rstrip()}\n```\n"
        case "emotion":
            return f"[{text_of(element.get('emoji_type'))}]"
        case "hr":
            return "\n---\n"
        case "button":
            label = text or text_of(object_of(element.get("text")).get("content"))
            return f"[{label}]" if label else ""
    return text


def _mention(element: Json) -> str:
    """The token that ``mentions`` resolves, or the bare name where the post carries none."""
    token = text_of(element.get("user_id"))
    if token in ("all", "@all"):
        return "@_all"
    return token if token.startswith("@_") else f"@{text_of(element.get('user_name'))}"


def _attachment(kind: str, body: Json, message_id: str) -> Iterator[Attachment]:
    if kind not in _FILES:
        return
    sort, name = _FILES[kind]
    if key := text_of(body.get(name)):
        resource = Resource(message_id, key, "image" if sort == "image" else "file")
        yield Attachment(sort, resource.packed(), text_of(body.get("file_name")))
