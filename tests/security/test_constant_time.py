"""Rule E12: secrets and signatures are compared in constant time, never by == or !=. Reads the code of all apps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.rule("E12")
ROOT: Final = Path(__file__).resolve().parents[2]
APPS: Final = ("bots", "clawdbot_site", "inference", "integrations", "monitoring")
TELLS: Final = re.compile(r"secret|signature|password|(^|_)(sign|token|mac|hmac|mark|otp|hash|digest|api_key)$", re.I)
# What nobody outside gave us, or what is no secret at all: (file, comparison) -> why.
HARMLESS: Final = {
    ("clawdbot_site/security/key_providers/vault_http.py", "self._role_token != instead_of"): "both are our own",
    ("integrations/feishu/calls.py", "token != refused"): "both are our own",
    ("integrations/dingtalk/transport.py", "token != refused"): "both are our own",
    ("integrations/feishu/events.py", "token == ALL_TOKEN"): "stands for a mention in a text",
    ("integrations/feishu/events.py", "mention.token == ALL_TOKEN"): "stands for a mention in a text",
    ("inference/engines/local/core.py", "token == NO_NUMBERS"): "a model's token",
    ("monitoring/verifier.py", "known == digest"): "of public statements",
    ("monitoring/verifier.py", "self.hashes.setdefault(sequence, statement['hash']) != statement['hash']"): "public",
    ("monitoring/backups/folder.py", "_digest(path) != digest"): "of files, both known to whoever has the backup",
}


def comparisons(source: str) -> Iterator[str]:
    """By == or !=, of something whose name tells of a secret with something that is no constant."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(isinstance(sign, ast.Eq | ast.NotEq) for sign in node.ops):
            sides = [node.left, *node.comparators]
            is_plain = any(isinstance(side, ast.Constant) for side in sides)  # whether there is one, or of which kind
            if not is_plain and any(TELLS.search(name_of(side)) for side in sides):
                yield ast.unparse(node)


def name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Call | ast.Await):
        return name_of(node.func if isinstance(node, ast.Call) else node.value)
    if isinstance(node, ast.Subscript):
        return node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else ""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_no_secret_is_compared_by_equality() -> None:
    files = [file for app in APPS for file in (ROOT / app).rglob("*.py") if "migrations" not in file.parts]
    found = {(str(file.relative_to(ROOT)), one) for file in files for one in comparisons(file.read_text("utf-8"))}

    assert found - HARMLESS.keys() == set()


@pytest.mark.parametrize(
    "line",
    [
        "given == app_secret",
        "headers['sign'] != expected",
        "row.signature == sign(body)",
        "callback_signature(a, b) == given",
        "user.api_key == key",
    ],
)
def test_what_the_rule_forbids_is_found(line: str) -> None:
    assert list(comparisons(line)) == [line]
