"""A message that is quoted or forwarded, as Feishu's own call tells of it, put into words for the model.

Pure. Shapes differ from those of events: ``msg_type``, ``body``, one id a mention. Source: PROTOCOL.md, "Looking up".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from integrations.feishu import content
from integrations.feishu.content import Content
from integrations.feishu.fields import Json, list_of, object_of, seconds, text_of
from integrations.mentions import resolve
from integrations.values import Credentials, Mention, Quoted, ReplyTarget

MOST_FORWARDED: Final = 100
MOST_CHARS: Final = 20_000


def people_in(items: Iterable[Json]) -> list[str]:
    """The open_ids of those who wrote these messages; bots are none."""
    senders = (object_of(item.get("sender")) for item in items)
    return [text_of(one.get("id")) for one in senders if one.get("id_type") == "open_id" and text_of(one.get("id"))]


def quoted(
    items: Sequence[Json], names: Mapping[str, str], target: ReplyTarget, credentials: Credentials
) -> Quoted | None:
    """None for a message that is gone, or that stands in another chat than the one that is answered."""
    first = items[0] if items else {}
    message_id, sender = text_of(first.get("message_id")), object_of(first.get("sender"))
    if not message_id or first.get("deleted") is True or text_of(first.get("chat_id")) != target.chat_id:
        return None
    body = _content(first, credentials)
    if first.get("msg_type") == content.FORWARD:
        body = Content(_forwarded(items[1:], names, credentials))
    return Quoted(
        message_id,
        body.text[:MOST_CHARS],
        body.attachments,
        sender_name=names.get(text_of(sender.get("id")), ""),
        is_own=sender.get("sender_type") == "app" and sender.get("id") == credentials.app_id,
        is_complete=True,
    )


def _content(item: Json, credentials: Credentials) -> Content:
    kind, message_id = text_of(item.get("msg_type")), text_of(item.get("message_id"))
    body = content.read(kind, text_of(object_of(item.get("body")).get("content")), message_id)
    mentions = [_mention(object_of(one)) for one in list_of(item.get("mentions"))]
    text, _is_addressed = resolve(body.text, [one for one in mentions if one.token], credentials.own_id)
    return Content(text, body.attachments)


def _mention(item: Json) -> Mention:
    return Mention(text_of(item.get("key")), text_of(item.get("id")), text_of(item.get("name")))


def _forwarded(items: Sequence[Json], names: Mapping[str, str], credentials: Credentials) -> str:
    """What was forwarded, a line a message, oldest first. Forwarded files cannot be fetched: they are named."""
    lines, writers = [], _Writers(names)
    for item in sorted(items[:MOST_FORWARDED], key=lambda one: seconds(one.get("create_time"))):
        body = _content(item, credentials)
        words = " ".join([body.text, *(f"[{one.name or one.kind}]" for one in body.attachments)]).strip()
        if words:
            lines.append(f"{writers.name_of(text_of(object_of(item.get('sender')).get('id')))}: {words}")
    return "\n".join(lines)


class _Writers:
    """Names of who wrote; people whom the app may not look up get letters, so that they can be told apart."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names, self._unnamed = names, dict[str, str]()

    def name_of(self, open_id: str) -> str:
        if name := self._names.get(open_id):
            return name
        letter = chr(ord("A") + len(self._unnamed) % 26)
        return self._unnamed.setdefault(open_id, letter)
