"""Server-sent events, from bytes that arrive in pieces of any size. Source: WHATWG HTML, section 9.2."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a \r at the end of what we have may be half of a \r\n
_MAX_EVENT_BYTES = 1 << 20


class EventTooLarge(Exception):
    """An event is larger than a mebibyte."""


class SseDecoder:
    """Feed bytes, get the data of each complete event. Lines are cut before they are decoded: no half characters."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[str]:
        """Raises EventTooLarge."""
        *lines, self._rest = _LINE_END.split(self._rest + received)
        events = [event for line in lines if (event := self._take(line)) is not None]
        if len(self._rest) + sum(map(len, self._data)) > _MAX_EVENT_BYTES:
            raise EventTooLarge
        return events

    def close(self) -> list[str]:
        """The stream has ended: return the last event, which some services do not end with an empty line."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        if rest:
            self._take(rest)
        event = self._take(b"")
        return [] if event is None else [event]

    def _take(self, line: bytes) -> str | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        data, self._data = self._data, []
        return b"\n".join(data).decode("utf-8", "replace") if data else None
