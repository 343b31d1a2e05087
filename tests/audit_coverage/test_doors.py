"""Rule U10: no door for people changes rows past the audit log."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = ("bots/api", "bots/admin", "monitoring/admin", "inference/admin.py", "integrations/admin.py")
DOORS += ("clawdbot_site/security/admin.py", "clawdbot_site/security/api.py", "clawdbot_site/security/views.py")
DOORS += ("clawdbot_site/security/network_admin.py", "clawdbot_site/security/network_api.py")
DOORS += ("monitoring/configuration",)
PAST_THE_LOG = {"update", "bulk_update", "bulk_create", "update_or_create", "_raw_delete", "raw", "execute"}


@pytest.mark.rule("U10")
def test_no_door_changes_rows_past_the_audit_log():
    """Rule U10: bulk calls of the ORM write no entries, so what people reach goes through the audited base classes."""
    files = [
        file for door in DOORS for file in ([ROOT / door] if door.endswith(".py") else (ROOT / door).rglob("*.py"))
    ]
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PAST_THE_LOG
        if ".objects" in ast.unparse(node.func) or "queryset" in ast.unparse(node.func)
    ]

    assert found == []
