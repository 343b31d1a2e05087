"""The tools of the weekly scan themselves, in their own virtual environment, which the first test makes (minutes): what
they say of our tree, of a package with a hole, and of a list of known holes that does not answer (rule S2)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.install import TORCH
from tests.deploy.test_locks import pins
from tests.deploy.test_scan import ROOT, Tree
from tests.servers.model_service import closed_port

SCAN = ROOT / "deploy/scan.sh"
CACHE = ROOT / "var/scan"
HOUSE = ROOT / "deploy/semgrep/house.yml"
HOLE = {"id": "GHSA-xxxx", "summary": "A hole", "affected": []}


def test_every_rule_of_ours_has_examples_of_both_kinds() -> None:
    examples = HOUSE.with_suffix(".py").read_text("utf-8")
    rules = [rule["id"] for rule in yaml.safe_load(HOUSE.read_text("utf-8"))["rules"]]

    for kind in ("ruleid", "ok"):
        assert set(re.findall(rf"# {kind}: ([a-z-]+)", examples)) == set(rules)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their folder. The lists of packages are written on the way."""
    done = subprocess.run([str(SCAN), "sbom", str(CACHE / "sbom")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return CACHE / "venv/bin"


class HolesServer:
    """A stand-in for OSV (https://google.github.io/osv.dev/post-v1-query/): what it knows of each package."""

    def __init__(self, answer: bytes, status: int = 200) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/query"

    def __enter__(self) -> HolesServer:
        threading.Thread(target=self._server.serve_forever).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.long
@pytest.mark.rule("S2")
@pytest.mark.parametrize(
    ("answer", "status", "failed"),
    [
        (b"{}", 200, ""),
        (json.dumps({"vulns": [HOLE]}).encode(), 200, "failed"),
        (b"<html>", 200, "failed"),
        (b"{}", 503, "failed"),
        (None, 0, "failed"),
    ],
    ids=["clean", "hole", "nonsense", "broken", "away"],
)
def test_a_hole_and_a_list_that_does_not_answer_both_fail_the_scan(
    tools: Path, tmp_path: Path, asked: pytest.MonkeyPatch, answer: bytes | None, status: int, failed: str
) -> None:
    tree = Tree(tmp_path)
    tree.stand_in("pip-audit", f'exec {tools}/pip-audit "$@"')
    pin = f"knock==1.0 --hash=sha256:{'0' * 64}\n"
    (tree.root / "requirements/base.txt").write_text(pin)

    if answer is None:
        with closed_port() as nowhere:
            asked.setenv("PIP_AUDIT_OSV_URL", nowhere)
            done = tree.scan()
    else:
        with HolesServer(answer, status) as server:
            asked.setenv("PIP_AUDIT_OSV_URL", server.url)
            done = tree.scan()
    assert done.returncode == (1 if failed else 0), done.stderr
    assert tree.result == ("failed pip-audit pip-audit-torch" if failed else "clean")


@pytest.mark.long
@pytest.mark.rule("S2")
def test_our_own_tree_is_clean(tools: Path, asked: pytest.MonkeyPatch) -> None:
    """Where no package has a known hole: the code, our habits, and no secret in it."""
    with HolesServer(b"{}") as server:
        asked.setenv("PIP_AUDIT_OSV_URL", server.url)
        done = subprocess.run([str(SCAN)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "scan: clean"), done.stdout + done.stderr


@pytest.mark.long
def test_our_own_rules_find_what_they_must_and_let_the_rest_pass(tools: Path) -> None:
    words = [str(tools / "semgrep"), "scan", "--test", str(HOUSE.parent)]
    own = {"PATH": f"{tools}:{os.environ['PATH']}", "SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0"}
    done = subprocess.run(words, env={**os.environ, **own}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "All tests passed" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("name", ["production", "gpu"])
def test_the_list_of_packages_is_valid_and_has_every_package_with_its_hashes(tools: Path, name: str) -> None:
    file = CACHE / f"sbom/clawdbot-{name}.cdx.json"
    check = (
        "import sys; from cyclonedx.schema import SchemaVersion\n"
        "from cyclonedx.validation.json import JsonStrictValidator\n"
        "print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()))"
    )
    done = subprocess.run([str(tools / "python"), "-c", check, str(file)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("None\n", "")

    listed = {}
    for part in json.loads(file.read_text("utf-8"))["components"]:
        kept = [one for reference in part.get("externalReferences", []) for one in reference.get("hashes", [])]
        listed[f"{part['name']}=={part['version']}"] = {one["content"] for one in kept}
    locked = {
        re.sub(r"\[.*\]", "", line.split(" ")[0]): set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        for line in pins(ROOT / f"requirements/{name}.txt")
    }
    assert {pin: hashes for pin, hashes in locked.items() if listed.get(pin) != hashes} == {}
    assert sorted(set(listed) - set(locked)) == ([] if name == "production" else [TORCH])
