"""The long connection's frame, ``pbbp2.Frame`` in protobuf 2: bytes to a value and back.

Pure and bounded: whatever the bytes are, ``decode`` returns a frame or raises PayloadError, and takes no more memory
than they do. Source: PROTOCOL.md, "Frames".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from integrations.errors import PayloadError

CONTROL: Final = 0
DATA: Final = 1
MAX_FRAME_BYTES: Final = 1024 * 1024  # as the official SDK
MAX_FIELDS: Final = 256  # in a frame, and in a header; Feishu sends about a dozen

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_U64 = 2**64
# Field numbers of Frame; a header's are 1 (key) and 2 (value).
_SEQ_ID, _LOG_ID, _SERVICE, _METHOD, _HEADER, _ENCODING, _TYPE, _PAYLOAD, _LOG_ID_NEW = range(1, 10)

_Fields = Iterator[tuple[int, int | bytes]]


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the long connection. Ids are unsigned 64-bit numbers, above what a float holds.

    None is a field that did not come; an answer has to leave it out, too.
    """

    seq_id: int
    log_id: int
    service: int
    method: int
    headers: tuple[tuple[str, str], ...] = ()
    payload_encoding: str | None = None
    payload_type: str | None = None
    payload: bytes | None = field(default=None, repr=False)
    log_id_new: str | None = None

    def header(self, key: str) -> str:
        """The first value under ``key``, empty where there is none."""
        return next((value for name, value in self.headers if name == key), "")


def decode(data: bytes) -> Frame:
    """Read one frame; unknown fields are skipped, of a repeated field the last counts. Raises PayloadError."""
    if len(data) > MAX_FRAME_BYTES:
        raise PayloadError("the frame is too large")
    found: dict[int, int | bytes] = {}
    headers: list[tuple[str, str]] = []
    for number, value in _fields(data):
        if number == _HEADER and isinstance(value, bytes):
            headers.append(_header(value))
        elif isinstance(value, _TYPES.get(number, ())):
            found[number] = value
    return _frame(found, tuple(headers))


def encode(frame: Frame) -> bytes:
    """Write one frame, fields in the order of their numbers, required zeros included."""
    numbers = enumerate((frame.seq_id, frame.log_id, frame.service, frame.method), _SEQ_ID)
    out = b"".join(_key(number, _VARINT) + _varint(value) for number, value in numbers)
    for key, value in frame.headers:
        out += _text(_HEADER, _text(1, key.encode()) + _text(2, value.encode()))
    rest = (frame.payload_encoding, frame.payload_type, frame.payload, frame.log_id_new)
    for number, content in enumerate(rest, _ENCODING):
        if content is not None:
            out += _text(number, content.encode() if isinstance(content, str) else content)
    return out


# -- reading --

_TYPES: Final[dict[int, type]] = {
    **dict.fromkeys((_SEQ_ID, _LOG_ID, _SERVICE, _METHOD), int),
    **dict.fromkeys((_ENCODING, _TYPE, _PAYLOAD, _LOG_ID_NEW), bytes),
}


def _frame(found: dict[int, int | bytes], headers: tuple[tuple[str, str], ...]) -> Frame:
    payload = found.get(_PAYLOAD)
    return Frame(
        seq_id=_number(found, _SEQ_ID),
        log_id=_number(found, _LOG_ID),
        service=_int32(_number(found, _SERVICE)),
        method=_int32(_number(found, _METHOD)),
        headers=headers,
        payload_encoding=_optional_text(found, _ENCODING),
        payload_type=_optional_text(found, _TYPE),
        payload=payload if isinstance(payload, bytes) else None,
        log_id_new=_optional_text(found, _LOG_ID_NEW),
    )


def _number(found: dict[int, int | bytes], number: int) -> int:
    value = found.get(number)
    if not isinstance(value, int):
        raise PayloadError("the frame lacks a required field")
    return value


def _optional_text(found: dict[int, int | bytes], number: int) -> str | None:
    value = found.get(number)
    return _decoded(value) if isinstance(value, bytes) else None


def _header(data: bytes) -> tuple[str, str]:
    found = {number: value for number, value in _fields(data) if isinstance(value, bytes)}
    if not {1, 2} <= found.keys():
        raise PayloadError("a header lacks its key or its value")
    return _decoded(found[1]), _decoded(found[2])


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as problem:
        raise PayloadError("a text of the frame is not UTF-8") from problem


def _fields(data: bytes) -> _Fields:
    """Numbers and byte strings with their field numbers. Fixed-width values are passed over: no known field has one."""
    at = 0
    for _ in range(MAX_FIELDS):
        if at == len(data):
            return
        key, at = _read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        if not number:
            raise PayloadError("the frame has a field without a number")
        if wire_type == _VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        start, at = _span(data, at, wire_type)
        if wire_type == _BYTES:
            yield number, data[start:at]
    if at < len(data):
        raise PayloadError("the frame has too many fields")


def _span(data: bytes, at: int, wire_type: int) -> tuple[int, int]:
    """Where a value that is no varint begins and ends. Groups, which protobuf gave up long ago, are refused."""
    if wire_type == _BYTES:
        size, at = _read_varint(data, at)
    elif wire_type in (_FIXED64, _FIXED32):
        size = 8 if wire_type == _FIXED64 else 4
    else:
        raise PayloadError("the frame has a field of an unknown wire type")
    if size > len(data) - at:
        raise PayloadError("the frame is cut off")
    return at, at + size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and the place after it."""
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >= _U64:
                break
            return value, at + index + 1
    raise PayloadError("the frame has a number that is cut off or too large")


def _int32(value: int) -> int:
    """The low 32 bits, signed, as protobuf reads an int32."""
    low = value & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


# -- writing --


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _text(number: int, value: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Negative numbers as 64-bit two's complement, as protobuf writes an int32."""
    value %= _U64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
