"""install.sh on a bare Debian, step by step: ``python -m tests.deploy.install_on_bare_machine [--report FILE]``.

Needs debootstrap, a package mirror and a package index. Made for people: raw output, and seconds for each step. It ends
with 1 where something is not as the documents promise.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.test_upgrade import OLD
from tests.deploy.bare_machine import BareMachine
from tests.servers.model_service import ModelService
from tests.servers.site import ROOT, until

HOST = "bots.example.com"
SOURCE, OLD_SOURCE = "/usr/local/src/clawdbot", "/usr/local/src/clawdbot-old"
SERVICES = ("clawdbot-inference", "clawdbot-worker", "clawdbot-beat", "clawdbot-listen")
CURL = f"curl -sS --fail-with-body --cacert /etc/clawdbot/tls/fullchain.pem --resolve {HOST}:443:127.0.0.1"
ASKED = 5  # questions to the old version, which the new one must still have
MOST_S = 300.0
# Everything that a second run must leave as it was: names, modes, owners, times and sizes.
STATE = (
    "find /etc /opt/clawdbot /usr/local /var/lib/clawdbot -not -path '*/__pycache__*' -printf '%p %m %u %g %T@ %s\\n'"
    " | sort | sha256sum"
)
LEFT = (
    "find / -xdev \\( -path /proc -o -path /usr/local/src \\) -prune -o -iname '*clawdbot*' -print | grep -v '/base/'"
)


class Walk:
    """The steps, each with its time; ``lines`` is the report."""

    def __init__(self, machine: BareMachine) -> None:
        self.machine, self.lines, self._times = machine, list[str](), list[tuple[str, float]]()

    def step(self, name: str, work: Callable[[], str | None]) -> None:
        began_s = time.monotonic()
        said = work() or ""
        self._times.append((name, time.monotonic() - began_s))
        print(f"[{self._times[-1][1]:6.1f} s] {name}\n{said}", flush=True)
        self.lines += [f"### {name}: {self._times[-1][1]:.1f} s", "", *_quoted(said)]

    def run(self, name: str, line: str, **env: str) -> None:
        self.step(name, lambda: f"# {line}\n{self.machine.run(line, **env)}")

    def total_s(self, *names: str) -> float:
        return sum(seconds for name, seconds in self._times if name in names)


def _quoted(said: str) -> list[str]:
    return ["```text", said.rstrip(), "```", ""] if said else []


def allow_local_model(machine: BareMachine) -> None:
    machine.run("echo OUTBOUND_ALLOWED_NETWORKS=127.0.0.0/8 >>/etc/clawdbot/clawdbot.env")
    machine.run("echo MFA_REQUIRED_ROLES=none >>/etc/clawdbot/clawdbot.env")  # the questions below come by password


def begin(machine: BareMachine) -> str:
    machine.begin("clawdbot")
    until(lambda: _answers(machine), "the site does not answer behind nginx", 120)
    for unit in SERVICES:
        machine.begin(unit)
    return "\n".join([machine.run(f"{CURL} https://{HOST}/readyz"), *machine.processes().values()])


def _answers(machine: BareMachine) -> bool:
    return machine.run(f"{CURL} -o /dev/null https://{HOST}/readyz && echo yes || echo no 2>/dev/null").endswith(
        "yes\n"
    )


def ask(machine: BareMachine, text: str) -> str:
    """A question over REST, through nginx and TLS."""
    password = machine.run("cat /var/lib/clawdbot/admin-password").strip()
    api, form = f"https://{HOST}/api/v1", "-H 'Content-Type: application/json'"
    given = json.dumps({"username": "admin", "password": password})
    token = json.loads(machine.run(f"{CURL} {form} -d '{given}' {api}/auth/token/"))["access"]
    question = json.dumps({"text": text, "user": "somebody"})
    return machine.run(f"{CURL} {form} -H 'Authorization: Bearer {token}' -d '{question}' {api}/bots/demo/messages/")


def messages(machine: BareMachine) -> str:
    query = "SELECT role, status, text FROM bots_message ORDER BY received_at, id"
    return machine.run(f"cd / && runuser -u postgres -- psql -qAt clawdbot -c '{query}'")


def first_run(walk: Walk, model: dict[str, str]) -> None:
    install = f"{SOURCE}/deploy/install.sh --host {HOST}"
    walk.run("install.sh", install, **model)
    allow_local_model(walk.machine)
    walk.step("the units' lines, until the site answers behind nginx with TLS", lambda: begin(walk.machine))
    walk.run("a simulated message", "clawdbot simulate feishu --text 'Hello' --yes-in-production")
    walk.step("a question over REST, through nginx with TLS", lambda: ask(walk.machine, "How are you?"))
    names = ("install.sh", "the units' lines, until the site answers behind nginx with TLS", "a simulated message")
    total_s = walk.total_s(*names)
    verdict = "reached" if total_s < MOST_S else "missed"
    walk.lines += [
        f"**From install.sh to the first answered message: {total_s:.0f} s ({MOST_S:.0f} s: {verdict}).**",
        "",
    ]
    before = walk.machine.run(STATE)
    walk.run("install.sh a second time", install, **model)
    assert walk.machine.run(STATE) == before, "the second run changed something"


def upgrade(walk: Walk, model: dict[str, str]) -> None:
    machine = walk.machine
    old = f"{OLD_SOURCE}/deploy/install.sh --host {HOST}"
    machine.run(f"rm -rf {OLD_SOURCE}/deploy {OLD_SOURCE}/.git && cp -r {SOURCE}/deploy {OLD_SOURCE}/")
    walk.run("an older tree, by today's deploy/", old, **model)
    allow_local_model(machine)
    walk.step("the older site begins", lambda: begin_old(machine))
    walk.step("questions to it", lambda: "\n".join(ask(machine, f"Question {number}") for number in range(ASKED)))
    kept = messages(machine)
    assert len(kept.splitlines()) == 2 * ASKED, kept
    machine.end()
    walk.run("install.sh of this tree", f"{SOURCE}/deploy/install.sh", **model)
    walk.step("the units' lines", lambda: begin(machine))
    walk.step("its messages", lambda: messages(machine))
    assert messages(machine) == kept, "messages were lost or changed"
    walk.step("one more question", lambda: ask(machine, "Are you still there?"))
    walk.run("the audit log", "clawdbot audit checkpoint && clawdbot audit verify")
    machine.end()
    walk.run("uninstall", f"{SOURCE}/deploy/install.sh uninstall; {LEFT}")
    assert messages(machine).startswith(kept)


def begin_old(machine: BareMachine) -> str:
    """It had no descriptor to take over yet."""
    python = "/opt/clawdbot/.venv/bin/python"
    machine.begin("clawdbot", python, "manage.py", "up")
    until(lambda: _answers(machine), "the older site does not answer", 120)
    for unit in SERVICES:
        machine.begin(unit)
    return "\n".join(machine.processes().values())


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.install_on_bare_machine", description=__doc__)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--debian", type=Path, help="where a bare Debian is kept for the next time")
    given = parser.parse_args(words)
    report, debian = given.report, given.debian
    lines = []
    with tempfile.TemporaryDirectory(prefix="clawdbot-bare-") as name, ModelService() as service:
        model = {"MODEL_ENDPOINT": service.base_url, "MODEL_API_KEY": service.api_key, "MODEL_NAME": "m"}
        for part, work in {"First installation": first_run, "Upgrade and removal": upgrade}.items():
            machine = BareMachine(Path(name) / work.__name__)
            machine.make(debian or Path(name) / "debian")
            machine.bring(ROOT, "HEAD", SOURCE)
            machine.bring(ROOT, OLD, OLD_SOURCE)
            with machine.running():
                walk = Walk(machine)
                try:
                    work(walk, model)
                finally:
                    machine.run("service postgresql stop; service redis-server stop; nginx -s stop; true")
            lines += [f"## {part}", "", *walk.lines]
    if report:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        head = [
            "# install.sh on a bare Debian",
            "",
            f"Commit {commit.stdout.strip()}, {platform.machine()}. The raw output.",
            "",
        ]
        report.write_text("\n".join([*head, *lines]), "utf-8")
    return 1 if any("s: missed)" in line for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
