"""An upgrade of a site that people write to: the old code runs on the new schema, and nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.chaos.judge import judge
from tests.chaos.people import People
from tests.chaos.services import OTHERS, WEB, ServedSite, Service
from tests.servers.site import ROOT, until

# The last commit before there were seals, alerts, teams and `manage.py up --fd`.
OLD = "5a881eba581d7665fca27d64ab3532c9a5282963"
RATE, SOME, QUIET_S, SETTLED_WITHIN_S = 10.0, 60, 2.0, 120.0


class OldSite(ServedSite):
    """Begins with the code of an earlier commit, which had no units yet, no readiness and no metrics of workers."""

    def service(self, name: str) -> Service:
        made = super().service(name)
        if self.root != ROOT:
            made.metrics_port = 0
            if name == WEB:
                fd = str(self.listening.fileno())
                made.command = [sys.executable, "-m", "daphne", "-v", "0", "--fd", fd, "clawdbot_site.asgi:application"]
        return made

    def manage(self, *words: str) -> str:
        """By the new code."""
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def forged(self) -> int:
        """A callback with a wrong signature: it leaves an entry in the audit log. Returns the status."""
        url = f"http://127.0.0.1:{self.port}/webhooks/dingtalk/{self.keys['dingtalk-plain']}/"
        headers = {"timestamp": str(int(time.time() * 1000)), "sign": "forged"}
        return httpx.post(url, json={"msgId": "forged"}, headers=headers, trust_env=False).status_code

    def refusals_audited(self) -> int:
        return len(self.ask("SELECT id FROM monitoring_auditlog WHERE action = 'webhook.rejected'"))


@pytest.fixture
def old_tree(tmp_path: Path) -> Path:
    archive = subprocess.run(["git", "archive", OLD], cwd=ROOT, capture_output=True, check=False)
    assert archive.returncode == 0, (
        f"commit {OLD} is not in this copy: git fetch --unshallow. {archive.stderr.decode()}"
    )
    tree = tmp_path / "old"
    tree.mkdir()
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
    return tree


@pytest.mark.long
def test_old_code_answers_on_the_new_schema_and_the_new_code_keeps_every_message(folder: Path, old_tree: Path) -> None:
    site = OldSite(folder)
    site.root = old_tree
    with site:
        people = People(site, RATE)
        people.wait_for_more(SOME)
        assert site.forged() == 401

        site.manage("migrate", "--verbosity", "0")
        people.wait_for_more(SOME)
        assert site.forged() == 401
        for name in OTHERS:
            site.restart(name)  # the old code also begins on the new schema
        people.wait_for_more(SOME)
        assert people.refusals == []
        until(
            lambda: site.refusals_audited() == 2, "the old code audits nothing", 100
        )  # of the same refusals one a minute

        site.root = ROOT
        site.restart_all()
        people.wait_for_more(SOME)
        asked = people.finish()
        site.wait_until_settled(SETTLED_WITHIN_S)
        time.sleep(QUIET_S)
        verdict = judge(asked, site.shown(), site.statuses(), ())
        site.manage("audit", "checkpoint")
        site.manage("audit", "verify")
        assert site.refusals_audited() == 2

    assert (verdict.faults, verdict.unconfirmed) == ({}, [])
    assert verdict.answered == verdict.asked == len(asked)
