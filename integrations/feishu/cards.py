"""What we send: message contents and cards as Feishu wants them, from a reply's Markdown.

Pure. Every text passes the cleaner here; nothing else builds a payload. Source: PROTOCOL.md, "Messages" and "Cards".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from integrations.feishu import markdown, splitting

PART_BYTES = 9_000  # readable; the platform would take 30 KB
CARD_BYTES = 24_000  # of 30 KB, the rest is the card around the text
ELEMENT_ID = "answer"
SUMMARY_CHARS = 60

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One message: its ``msg_type`` and ``content``, the JSON text of the API."""

    msg_type: str
    content: str


def parts(text: str) -> tuple[Part, ...]:
    """A reply as messages: plain text where it holds no Markdown, else rich text. Blank text gives none."""
    if markdown.is_plain(text):
        return literal_parts(text)
    return _rich(markdown.clean(text))


def literal_parts(text: str) -> tuple[Part, ...]:
    """A text as plain messages, sign for sign, whatever it would mean as Markdown."""
    return tuple(text_part(piece) for piece in splitting.split(markdown.plain(text), PART_BYTES))


def fit(text: str) -> tuple[str, tuple[Part, ...]]:
    """A reply as the text of one card, and as further messages what does not fit into it."""
    cleaned = markdown.clean(text)
    head, rest = splitting.cut(cleaned, CARD_BYTES)
    return (markdown.clean_part(head), _rich(rest, is_cut=True)) if rest else (cleaned, ())


def preview(text: str) -> str:
    """The text of a card while the reply grows. Costs the same however long the reply is."""
    return fit(text[:CARD_BYTES])[0]


def text_part(text: str) -> Part:
    return Part("text", as_json({"text": text}))


def post_part(cleaned: str) -> Part:
    """A rich text message of one Markdown element."""
    return Part("post", as_json({"zh_cn": {"title": "", "content": [[{"tag": "md", "text": cleaned}]]}}))


def card_part(card_id: str) -> Part:
    """The message that shows a card entity."""
    return Part("interactive", as_json({"type": "card", "data": {"card_id": card_id}}))


def as_text(part: Part) -> Part:
    """A rich text message as a plain one, for where Feishu does not take it as it is."""
    rows = json.loads(part.content)["zh_cn"]["content"]
    return text_part(markdown.plain("\n".join(element["text"] for row in rows for element in row)))


def card(cleaned: str, *, streaming: bool, row: Json | None = None) -> str:
    """The JSON of a card entity: one Markdown element, of which ``cleaned`` is the first text, and a row of buttons."""
    config: Json = {"update_multi": True, "streaming_mode": streaming}
    if streaming:
        config["streaming_config"] = {
            "print_frequency_ms": {"default": 30},
            "print_step": {"default": 2},
            "print_strategy": "fast",
        }
    else:
        config["summary"] = {"content": summary(cleaned)}
    element = {"tag": "markdown", "element_id": ELEMENT_ID, "content": cleaned}
    elements = [element, row] if row else [element]
    return as_json({"schema": "2.0", "config": config, "body": {"elements": elements}})


def closing_settings(cleaned: str) -> str:
    """Settings that end streaming; the summary replaces "generating" in the list of chats."""
    return as_json({"config": {"streaming_mode": False, "summary": {"content": summary(cleaned)}}})


def reopening_settings() -> str:
    return as_json({"config": {"streaming_mode": True}})


def summary(cleaned: str) -> str:
    """The first words of cleaned Markdown, without its signs."""
    words = " ".join(re.sub(r"[*_~`#>|]+", " ", cleaned[: 4 * SUMMARY_CHARS]).split())
    return words if len(words) <= SUMMARY_CHARS else f"{words[: SUMMARY_CHARS - 1]}…"


def _rich(cleaned: str, *, is_cut: bool = False) -> tuple[Part, ...]:
    pieces = splitting.split(cleaned, PART_BYTES)
    if is_cut or len(pieces) > 1:
        pieces = [markdown.clean_part(piece) for piece in pieces]
    return tuple(post_part(piece) for piece in pieces if piece)


def as_json(value: Json) -> str:
    """As Feishu counts it: no escapes, which would double the size of Chinese text, and no blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
