"""The frame codec against recorded frames, against the official SDK's codec, and against whatever bytes there are."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.errors import PayloadError
from integrations.feishu import frames
from integrations.feishu.frames import Frame, decode, encode

from .conftest import vectors

ORACLE = json.loads((Path(__file__).parent / "frame_oracle.json").read_text())
WHOLE = [vector for vector in vectors("ws_frame") if "error" not in vector.values[0]["expect"]]
PING = "0800100018f681801020002a0c0a0474797065120470696e67"
REQUIRED = bytes.fromhex("0800100018002000")

u64 = st.integers(0, 2**64 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
texts = st.text(max_size=40)
any_frame = st.builds(
    Frame,
    seq_id=u64,
    log_id=u64,
    service=i32,
    method=i32,
    headers=st.lists(st.tuples(texts, texts), max_size=8).map(tuple),
    payload_encoding=st.none() | texts,
    payload_type=st.none() | texts,
    payload=st.none() | st.binary(max_size=300),
    log_id_new=st.none() | texts,
)


def as_fields(frame: Frame) -> dict[str, Any]:
    names = ("seq_id", "log_id", "service", "method", "payload_encoding", "payload_type", "log_id_new")
    payload_hex = None if frame.payload is None else frame.payload.hex()
    headers = [list(header) for header in frame.headers]
    return {name: getattr(frame, name) for name in names} | {"headers": headers, "payload_hex": payload_hex}


@pytest.mark.parametrize("vector", WHOLE)
def test_recorded_frame_is_read_and_written_as_the_official_codecs_do(vector: dict[str, Any]) -> None:
    data, expect = bytes.fromhex(vector["input"]["frame_hex"]), vector["expect"]["frame"]

    frame = decode(data)

    assert (frame.seq_id, frame.log_id) == (expect["SeqID"], expect["LogID"])
    assert (frame.service, frame.method) == (expect["service"], expect["method"])
    assert [list(header) for header in frame.headers] == expect["headers"]
    assert frame.payload == (base64.b64decode(expect["payload_base64"]) if "payload_base64" in expect else None)
    assert encode(frame) == data


def test_ping_is_written_byte_for_byte() -> None:
    assert encode(Frame(0, 0, 33554678, frames.CONTROL, (("type", "ping"),))).hex() == PING


def test_truncated_recorded_frame_is_refused() -> None:
    (broken,) = [v.values[0] for v in vectors("ws_frame") if "error" in v.values[0]["expect"]]

    with pytest.raises(PayloadError):
        decode(bytes.fromhex(broken["input"]["frame_hex"]))


def test_every_frame_of_the_official_codec_is_read_and_written_alike() -> None:
    read = [as_fields(decode(bytes.fromhex(vector["hex"]))) for vector in ORACLE["frames"]]
    written = [encode(decode(bytes.fromhex(vector["hex"]))).hex() for vector in ORACLE["frames"]]

    assert read == [vector["fields"] for vector in ORACLE["frames"]]
    assert written == [vector["hex"] for vector in ORACLE["frames"]]


@pytest.mark.parametrize("vector", ORACLE["damaged"], ids=itertools.count())
def test_damaged_frame_gets_the_verdict_of_the_official_codec(vector: dict[str, Any]) -> None:
    try:
        verdict = as_fields(decode(bytes.fromhex(vector["hex"])))
    except PayloadError:
        verdict = None

    assert verdict == vector["fields"]


@settings(deadline=None)
@given(any_frame)
def test_what_is_written_is_read_again(frame: Frame) -> None:
    assert decode(encode(frame)) == frame


@settings(deadline=None)
@given(any_frame, st.data())
def test_a_frame_cut_anywhere_is_never_taken_for_another_kind_of_error(frame: Frame, data: st.DataObject) -> None:
    whole = encode(frame)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        shorter = decode(cut)
    except PayloadError:
        return
    assert (shorter.seq_id, shorter.log_id, shorter.service, shorter.method) == (
        frame.seq_id,
        frame.log_id,
        frame.service,
        frame.method,
    )


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_or_a_payload_error(data: bytes) -> None:
    try:
        frame = decode(data)
    except PayloadError:
        return
    assert decode(encode(frame)) == frame


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("7d00000000", "fixed32"),
        ("790000000000000000", "fixed64"),
        ("7803", "varint"),
        ("7a03616263", "bytes"),
        ("3203616263" + "3800", "a known number with another wire type"),
    ],
)
def test_unknown_fields_are_skipped(extra: str, why: str) -> None:
    frame = decode(REQUIRED + bytes.fromhex(extra) + bytes.fromhex("42026869"))

    assert (frame.seq_id, frame.payload, frame.payload_type) == (0, b"hi", None), why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing"),
        (b"\x08\x00\x10\x00\x18\x00", "no method"),
        (REQUIRED + b"\x42\xff\xff\xff\xff\x0f", "a length of 4 GiB"),
        (REQUIRED + b"\x42" + b"\xff" * 9 + b"\x01", "a length of 2^64 - 1"),
        (b"\x08" + b"\xff" * 9 + b"\x02" + REQUIRED, "a number of 65 bits"),
        (b"\x08" + b"\x80" * 10 + b"\x00" + REQUIRED, "a number of eleven bytes"),
        (REQUIRED + b"\x80", "a number that never ends"),
        (REQUIRED + b"\x53\x08\x01\x54", "a group"),
        (REQUIRED + b"\x02\x00", "field number 0"),
        (REQUIRED + b"\x2a\x02\x0a\x00", "a header without a value"),
        (REQUIRED + b"\x2a\x05\x0a\x01\xff\x12\x00", "a header that is not UTF-8"),
        (REQUIRED + b"\x32\x01\xff", "a text that is not UTF-8"),
        (REQUIRED + b"\x78\x00" * frames.MAX_FIELDS, "too many fields"),
        (REQUIRED + b"\x78\x00" * (frames.MAX_FIELDS - 5) + b"\x42\x05hi", "a last field that is cut off"),
        (REQUIRED + b"\x42\x80\x80\x40" + bytes(2**20), "more than the limit"),
    ],
)
def test_hostile_frame_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(PayloadError):
        decode(data)


def test_the_largest_number_and_the_most_fields_are_taken() -> None:
    largest = b"\x08" + b"\xff" * 9 + b"\x01" + REQUIRED[2:]

    assert decode(largest + b"\x78\x00" * (frames.MAX_FIELDS - 4)).seq_id == 2**64 - 1
