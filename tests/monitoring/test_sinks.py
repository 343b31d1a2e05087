"""Copies of checkpoints: where they go, what comes of a sink that fails."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from monitoring import audit, sealer, sinks, verifying
from monitoring.checks import check_audit_sinks
from monitoring.models import Alert, AuditCheckpoint, AuditSink

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sinks, "_newest_sent", {})
    settings.AUDIT_SINKS = [f"file:{tmp_path / 'sink'}"]
    return tmp_path / "sink"


def sign() -> AuditCheckpoint:
    audit.record("bot.created")
    sealer.seal_waiting()
    made = sealer.sign()
    assert made
    return made


def numbers(copies: Any) -> list[int]:
    return [json.loads(copy["statement"])["number"] for copy in copies]


def test_a_folder_gets_each_checkpoint_once_readable_by_its_owner_only(folder):
    sign()
    sinks.copy_all()
    sign()
    sinks.copy_all()
    sinks.copy_all()

    files = list(folder.glob("checkpoints-*.jsonl"))
    assert numbers(json.loads(line) for line in files[0].read_text().splitlines()) == [1, 2]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert set(json.loads((folder / "key.json").read_text())) == {"algorithm", "public", "fingerprint", "handovers"}


def test_the_newest_checkpoint_is_copied_when_the_table_of_sinks_says_all_were(folder):
    sign()
    sinks.copy_all()
    AuditSink.objects.update(copied_through=10**9)
    sign()

    sinks.copy_all()

    assert 2 in numbers(sinks.FileSink(folder, "x").read())


def test_a_sink_that_fails_is_shown_tried_again_and_blocks_nothing(settings, tmp_path, folder):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, no folder")
    settings.AUDIT_SINKS = [f"file:{blocked}", f"file:{folder}"]
    sign()

    sinks.copy_all()

    assert numbers(sinks.FileSink(folder, "x").read()) == [1]
    state = AuditSink.objects.get(name=f"file:{blocked}")
    assert state.failing_since
    assert "Error" in state.error
    assert any(str(blocked) in text for text in sinks.complaints())

    AuditSink.objects.filter(pk=state.pk).update(failing_since=timezone.now() - timedelta(minutes=6))
    sinks.copy_all()
    assert Alert.objects.open().get(rule="audit.sink").subject == f"file:{blocked}"

    blocked.unlink()
    sinks.copy_all()
    assert numbers(sinks.FileSink(blocked, "x").read()) == [1]
    assert not Alert.objects.open().exists()
    assert not AuditSink.objects.get(pk=state.pk).failing_since


@contextmanager
def listening(kind: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server


def test_syslog_gets_a_line_by_udp(settings):
    made = sign()
    with listening(socket.SOCK_DGRAM) as server:
        settings.AUDIT_SINKS = [f"syslog:127.0.0.1:{server.getsockname()[1]}"]
        sinks.copy_all()
        line = server.recv(65_536).decode()

    assert line.startswith("<109>1 ")
    assert json.loads(line[line.index("{") :]) == made.as_copy()


def test_syslog_gets_a_counted_frame_by_tcp(settings):
    made = sign()
    with listening(socket.SOCK_STREAM) as server:
        server.listen()
        settings.AUDIT_SINKS = [f"syslog+tcp:127.0.0.1:{server.getsockname()[1]}"]
        sinks.copy_all()
        line, _address = server.accept()
        with line:
            size, _, frame = line.recv(65_536).partition(b" ")

    assert int(size) == len(frame)
    assert json.loads(frame[frame.index(b"{") :]) == made.as_copy()


def test_https_gets_what_it_lacks_and_its_token_is_not_shown(settings, monkeypatch):
    """The call itself is the guarded client's (tests/security/outbound), which takes no plain http here."""
    heard: list[Any] = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if len(heard) > 1 else 503)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    settings.AUDIT_SINKS = ["https://log.example.com/audit?token=canary"]
    post, port = sinks._post, server.server_port
    assert post
    monkeypatch.setattr(sinks, "_post", lambda url, body: post(f"http://127.0.0.1:{port}/", body))
    made = sign()

    sinks.copy_all()
    failing = AuditSink.objects.get()
    sinks.copy_all()
    server.shutdown()
    server.server_close()

    assert failing.failing_since
    assert "canary" not in failing.name + failing.error
    assert heard[1]["checkpoints"] == [made.as_copy()]
    assert sinks.complaints() == []


@pytest.mark.parametrize(
    "text", ["file:", "http://log.example.com", "syslog:host:port", "somewhere", "syslog+tcp:", "https://"]
)
def test_a_sink_that_is_none_is_refused_by_the_system_check(settings, text):
    settings.AUDIT_SINKS = [text]

    assert [error.id for error in check_audit_sinks()] == ["monitoring.E003"]


def test_a_line_cut_short_is_told(folder):
    sign()
    sinks.copy_all()
    path = next(folder.glob("checkpoints-*.jsonl"))
    path.write_text(path.read_text()[:40] + "\n")

    problems = [problem.text for problem in verifying.verify().problems]
    assert problems == [f"file:{folder}: a checkpoint cannot be read"]


@pytest.mark.rule("U5")
def test_a_checkpoint_is_signed_within_a_minute_when_nothing_happens():
    made = sign()
    assert sealer.NEWS_AFTER < sealer.CALM_AFTER < timedelta(seconds=60)
    assert sealer.sign_if_due() is None

    audit.record("bot.changed")
    later = made.signed_at + sealer.NEWS_AFTER
    sealer.seal_waiting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealer.timezone, "now", lambda: later)
        assert sealer.sign_if_due()
        assert sealer.sign_if_due() is None
        patch.setattr(sealer.timezone, "now", lambda: later + sealer.CALM_AFTER)
        assert sealer.sign_if_due()
