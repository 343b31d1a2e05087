"""Personal data in log lines: masked wherever a line can hold it, and only that."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from monitoring import logs, personal


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("call 13812345678 now", "call [phone] now"),
        ("电话13812345678，谢谢", "电话[phone]，谢谢"),
        ("+86 138-1234-5678", "[phone]"),
        ("+49 30 1234567", "[phone]"),
        ("010-12345678", "[phone]"),
        ("11010519491231002X", "[id number]"),
        ("身份证110105194912310021。", "身份证[id number]。"),
        ("li.lei+x@example.com.cn", "[e-mail]"),
        ("card 4111 1111 1111 1111", "card [bank card]"),
        ("phone:13812345678", "phone:[phone]"),
        ("6222021234567890128", "[bank card]"),
        ("6222021234567890129", "6222021234567890129"),  # its check digit is wrong
        *((text, text) for text in ("took 1764475200000 ms, 2026-11-30T04:45:37, 10.0.0.138:13812",)),
        *((text, text) for text in ("message 01a22ab0-e745-741c-8a71-5190eb91a3cd of om_13812345678",)),
    ],
)  # fmt: skip
def test_what_tells_of_a_person_is_masked(text, wanted):
    assert personal.mask(text) == wanted


def line_of(formatter: logging.Formatter) -> str:
    try:
        raise ValueError("the platform said: li@example.com is unknown")
    except ValueError:
        trouble = sys.exc_info()
    fields = {"reason": "user 13812345678", "seen": {"names": ["110105194912310021"]}}
    record = logging.Logger("bots").makeRecord(
        "bots", 20, "f.py", 1, "to %s", ("x@example.com",), trouble, extra=fields
    )
    return formatter.format(record)


@pytest.mark.parametrize("formatter", [logs.ConsoleFormatter, logs.RedactingJsonFormatter])
def test_no_part_of_a_log_line_tells_of_a_person(formatter):
    line = line_of(formatter())

    assert not any(canary in line for canary in ("13812345678", "example.com", "110105194912310021"))
    assert line.count("[e-mail]") == 3  # the message, the error, and the traceback's line of code


def test_masking_is_switched_off_by_its_setting():
    config = logs.config("json", "INFO", None, masks_people=False)["formatters"]["json"]
    line = json.loads(line_of(config.pop("()")(**config)))

    assert (line["message"], line["reason"]) == ("to x@example.com", "user 13812345678")
