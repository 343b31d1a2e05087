"""Events that come in several frames: kept until the last part is there, within bounds.

Pure: the caller says what time it is. Source: PROTOCOL.md, "Split messages".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from integrations.errors import PayloadError
from integrations.feishu.frames import Frame

MAX_PARTS: Final = 256
MAX_EVENT_BYTES: Final = 2 * 1024 * 1024
MAX_WAITING: Final = 32
LIFE_S: Final = 10.0


@dataclass(slots=True)
class _Begun:
    """An event of which parts are missing."""

    count: int
    began_at_s: float
    parts: dict[int, bytes] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.parts) == self.count

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.parts.values()))

    def joined(self) -> bytes:
        return b"".join(self.parts[seq] for seq in range(self.count))


class Parts:
    """The unfinished events of one connection."""

    def __init__(self) -> None:
        self._begun: dict[str, _Begun] = {}

    def add(self, frame: Frame, now_s: float) -> bytes | None:
        """Return the event's bytes once they are whole, None before. Raises PayloadError.

        An event that was refused is forgotten; it is not acknowledged, so the platform sends it again.
        """
        count, seq = _place(frame)
        if count == 1:
            return frame.payload or b""
        self._forget_before(now_s - LIFE_S)
        name = frame.header("message_id")
        begun = self._begun.setdefault(name, _Begun(count, now_s))
        begun.parts[seq] = frame.payload or b""
        self._check(name, begun, count)
        return self._begun.pop(name).joined() if begun.is_whole else None

    def _check(self, name: str, begun: _Begun, count: int) -> None:
        if begun.count != count or begun.size_bytes > MAX_EVENT_BYTES or len(self._begun) > MAX_WAITING:
            del self._begun[name]
            raise PayloadError("the parts of an event do not fit together, or are too many")

    def _forget_before(self, time_s: float) -> None:
        self._begun = {name: begun for name, begun in self._begun.items() if begun.began_at_s >= time_s}


def _place(frame: Frame) -> tuple[int, int]:
    """How many parts there are, and which this is. An event in one frame may come without either."""
    count, seq = _number(frame.header("sum") or "1"), _number(frame.header("seq") or "0")
    if not seq < count <= MAX_PARTS:
        raise PayloadError("a part of an event is out of range")
    if count > 1 and not frame.header("message_id"):
        raise PayloadError("a part of an event does not say of which")
    return count, seq


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise PayloadError("the number of a part is not a number")
    return int(text)
