"""Bad input at the start: one clear sentence, no traceback, exit code 1. Real processes."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.site import ROOT


def up(data_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "CLAWDBOT_DATA_DIR": str(data_dir), "CLAWDBOT_PORT": "1", **env}
    command = [sys.executable, "manage.py", "up"]
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"CLAWDBOT_PORT": "abc"}, "CLAWDBOT_PORT"),
        ({"DATABASE_URL": "mysql://x"}, "must start with postgres:// or sqlite:///"),
        ({"DATABASE_URL": "postgres://u:p@127.0.0.1:1/x", "CLAWDBOT_PORT": "0"}, "database cannot be reached"),
        ({"SECRET_KEY": "changeme"}, "placeholder or too short"),
        ({"SECRET_KEY_FILE": "/nowhere"}, "SECRET_KEY cannot be read"),
        ({"FIELD_ENCRYPTION_KEYS": "not base64 of thirty-two bytes at all"}, "32 bytes in base64"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "SECRET_KEY is not set"),
        ({"TRUSTED_PROXIES": "foo"}, "is no network"),
        ({"MODEL_ENDPOINT": "abc"}, "is no address"),
        ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL one of"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_said_in_one_sentence(tmp_path, env, says):
    done = up(tmp_path / "data", **env)

    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_said_in_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up(tmp_path / "data", CLAWDBOT_PORT=str(port))

    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken by another program" in done.stderr


def test_a_second_site_on_the_same_data_is_refused(tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with (data_dir / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = up(data_dir)

    assert done.returncode == 1
    assert "already running" in done.stderr


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_a_worker_beside_the_embedded_mode_is_refused(tmp_path, program):
    celery = Path(sys.executable).with_name("celery")
    env = {"PATH": os.environ["PATH"], "CLAWDBOT_DATA_DIR": str(tmp_path)}
    command = [str(celery), "-A", "clawdbot_site", program]

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "is part of `make run`" in done.stderr
