"""The canonical form: the same before the insert and after it, on both databases, whatever it holds (rule U8)."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from monitoring import audit, entries, exports, marks, verifier
from monitoring.models import AuditLog

TEXT = st.text(max_size=40)
LEAVES = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXT
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
CHANGES = st.dictionaries(TEXT, VALUES, max_size=4)


@pytest.mark.rule("U8")
class Fuzzed(TestCase):
    @given(changes=CHANGES, label=TEXT, reason=TEXT)
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def test_an_entry_is_found_as_it_was_marked(self, changes: Any, label: str, reason: str) -> None:
        audit.record("bot.changed", target_label=label, changes=changes, reason=reason)
        pk = AuditLog.objects.values_list("pk", flat=True)[0]

        *values, mark = entries.read(str(pk)) or []

        assert mark == marks.mark(marks.key_for(marks.ENTRY), verifier.canonical(values))
        assert len("".join(exports.json_lines(AuditLog.objects.filter(pk=pk))).splitlines()) == 1

    @given(changes=CHANGES, label=TEXT, reason=TEXT)
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def test_no_cell_starts_a_formula_and_no_line_breaks(self, changes: Any, label: str, reason: str) -> None:
        audit.record("bot.changed", target_label=label, changes=changes, reason=reason)

        text = "".join(exports.csv_lines(AuditLog.objects.all()[:1]))
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))

        assert len(rows) == 2
        assert not [cell for cell in rows[1] if cell.lstrip().startswith(exports.FORMULA_STARTS)]
        assert not [char for cell in rows[1] for char in cell if ord(char) < 32 or char in "\u2028\u202e\x7f"]


@pytest.mark.parametrize("microsecond", [0, 1, 120000, 999999])
def test_times_are_alike_whatever_their_fraction(db, microsecond):
    at = datetime(2026, 1, 31, 8, 0, 0, microsecond, tzinfo=UTC)
    entry = AuditLog(action="bot.changed", actor_kind="system", created_at=at)
    entry.save()

    assert (entries.read(str(entry.pk)) or [])[1] == f"2026-01-31T08:00:00.{microsecond:06d}Z"


def test_the_export_of_the_command_line_is_json_whatever_an_entry_holds(db):
    audit.record("bot.changed", target_label="\x1b[31m\u2028\n", changes={"x": float("nan"), "y": "\x00\ud800"})

    line = "".join(exports.json_lines(AuditLog.objects.all()))

    assert json.loads(line)["target_label"] == "\\x1b[31m\\u2028\\x0a"
