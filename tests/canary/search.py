"""Looks for planted secrets in whatever a site leaves behind, in every dress that a program might have put them in.

A form that a secret of 20 random characters takes comes from nowhere else, so one hit is a leak.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, quote_plus

SHORTEST: Final = 12  # what is shorter would be found by chance
PART: Final = 16  # of a long secret that was cut
PACKED: Final = (b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # gzip, zlib
DEEPEST: Final = 3
BLANKS: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Canary:
    """``name`` says what it is, and that is all that a failing test shows."""

    name: str
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        assert len(self.text) >= SHORTEST, f"{self.name} is too short to be told from chance"


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    name: str
    form: str


class Search:
    def __init__(self, canaries: Iterable[Canary]) -> None:
        self.canaries = tuple(canaries)
        self._wanted = [(Hit(one.name, form), sought) for one in self.canaries for form, sought in forms(one.text)]

    def hits(self, data: bytes | str) -> set[Hit]:
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return {hit for layer in layers(raw) for hit, sought in self._wanted if sought in layer}

    def names(self, data: bytes | str) -> set[str]:
        return {hit.name for hit in self.hits(data)}


def forms(text: str) -> Iterator[tuple[str, bytes]]:
    """(name of the form, what to look for), each at least ``SHORTEST`` bytes long."""
    raw = text.encode()
    for name, sought in (*_written(text), *_in_base64(raw), *_decoded(text)):
        if len(sought) >= SHORTEST:
            yield name, sought


def _written(text: str) -> Iterator[tuple[str, bytes]]:
    raw = text.encode()
    yield "raw", raw
    yield "lower case", text.lower().encode()
    yield "upper case", text.upper().encode()
    yield "reversed", text[::-1].encode()
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "UTF-16 LE", text.encode("utf-16-le")
    yield "UTF-16 BE", text.encode("utf-16-be")
    yield "percent", quote(text, safe="").encode()
    yield "percent, spaces as plus", quote_plus(text).encode()
    yield "percent, slashes kept", quote(text).encode()
    yield "percent, each byte", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "PERCENT, each byte", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "HTML", html.escape(text).encode()
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "JSON in JSON", json.dumps(json.dumps(text)[1:-1])[1:-1].encode()
    yield "JSON, not ASCII only", json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield "JSON, each sign", "".join(f"\\u{ord(sign):04x}" for sign in text).encode()
    yield "Python", repr(text)[1:-1].encode()
    yield "PostgreSQL", text.replace("\\", "\\\\").encode()
    if len(raw) >= 2 * PART:
        yield "its beginning", raw[:PART]
        yield "its end", raw[-PART:]


def _in_base64(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Somewhere inside a longer text: at each of three places, without the signs that its neighbours share."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw)
        sought = text[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        yield f"base64, {before} before", sought
        yield f"base64 for addresses, {before} before", sought.replace(b"+", b"-").replace(b"/", b"_")
    for before in range(5):
        text = base64.b32encode(bytes(before) + raw)
        yield f"base32, {before} before", text[-(-before * 8 // 5) : (before + len(raw)) * 8 // 5]


def _decoded(text: str) -> Iterator[tuple[str, bytes]]:
    """What a key in base64 or base32 stands for."""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    for name, decode, unit in (("base64", base64.b64decode, 4), ("base32", base64.b32decode, 8)):
        try:
            key = decode(plain + "=" * (-len(plain) % unit))
        except (binascii.Error, ValueError):
            continue
        yield f"decoded from {name}", key
        yield f"decoded from {name}, in hex", key.hex().encode()


def layers(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The data, the same without blanks and line breaks (wrapped base64, grouped codes), and what is packed in it."""
    yield data
    squeezed = data.translate(None, BLANKS)
    if squeezed != data:
        yield squeezed
    if depth < DEEPEST:
        for content in _unpacked(data):
            yield from layers(content, depth + 1)


def _unpacked(data: bytes) -> Iterator[bytes]:
    for mark in PACKED:
        start = data.find(mark)
        while start >= 0:
            if content := _inflated(data[start:]):
                yield content
            start = data.find(mark, start + 1)


def _inflated(data: bytes) -> bytes:
    """As far as it opens: a file that is still written to is cut."""
    stream = zlib.decompressobj(wbits=47)
    parts: list[bytes] = []
    try:
        for begin in range(0, len(data), 1024):
            parts.append(stream.decompress(data[begin : begin + 1024]))
            if stream.eof:
                break
    except zlib.error:
        return b"".join(parts)
    return b"".join(parts)
