"""HTTP/1.1 on asyncio protocols: the client's keep-alive connection, and the platform that replies arrive at.

Raw sockets, because a client library would cost more than the site that it measures.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

ACCEPTED = b'{"errcode":0,"errmsg":"ok"}'
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ACCEPTED) + ACCEPTED
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_SESSION = re.compile(rb"[?&]session=([\w-]+)")


def size_of(buffer: bytes) -> int | None:
    """Bytes of the first whole message in ``buffer``; None while it is not complete."""
    head, found, body = buffer.partition(b"\r\n\r\n")
    if not found:
        return None
    if _CHUNKED.search(head):
        end = 0 if body.startswith(b"0\r\n\r\n") else body.find(b"\r\n0\r\n\r\n")
        length = None if end < 0 else end + (5 if end == 0 else 7)
    else:
        given = _LENGTH.search(head)
        length = int(given[1]) if given else 0
    if length is None or len(body) < length:
        return None
    return len(head) + 4 + length


class Connection(asyncio.Protocol):
    """Asks one thing at a time; ``answered`` gets the status, 0 when the connection was lost."""

    def __init__(self, answered: Callable[[Connection, int], None]) -> None:
        self._answered, self._buffer, self._is_asking = answered, b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> None:
        self._buffer, self._is_asking = b"", True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if size_of(self._buffer) is not None:
            self._end(int(self._buffer[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(0)

    def close(self) -> None:
        self._transport.close()

    def _end(self, status: int) -> None:
        if self._is_asking:
            self._is_asking = False
            self._answered(self, status)


class Platform(asyncio.Protocol):
    """The chat platform's side: takes replies, and tells ``replied`` whose and when (time.monotonic)."""

    def __init__(self, replied: Callable[[str, float], None]) -> None:
        self._replied, self._buffer = replied, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (size := size_of(self._buffer)) is not None:
            request, self._buffer = self._buffer[:size], self._buffer[size:]
            found = _SESSION.search(request.partition(b"\r\n")[0])
            if found:
                self._replied(found[1].decode(), time.monotonic())
            self._transport.write(REPLY)
