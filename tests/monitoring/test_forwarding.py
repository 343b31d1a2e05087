"""Logs and audit entries at a central receiver: by UDP, TCP, TLS and OTLP, on real sockets."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from monitoring import audit, audit_forwarding, log_forwarding, logs, metrics, receivers, sealer
from monitoring.checks import check_audit_receivers
from monitoring.models import AuditLog, AuditSink
from monitoring.receivers import Record
from tests.servers.site import until
from tests.servers.tls import certificate

RECORD = Record(datetime(2026, 1, 31, 8, 0, tzinfo=UTC), 4, '{"message": "名字"}')


class Collector:
    """A syslog receiver: every frame of every connection, in order of arrival."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.frames: list[str] = []
        self._context = context
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _from = self._door.accept()
            except OSError:
                return
            with line:
                if self._context:
                    line = self._context.wrap_socket(line, server_side=True)
                self._take(line)
                line.close()

    def _take(self, line: socket.socket) -> None:
        with line.makefile("rb") as file:
            while head := file.read(1):
                while not head.endswith(b" "):
                    head += file.read(1)
                self.frames.append(file.read(int(head)).decode())

    def stop(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join(5)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


def bodies(frames: list[str]) -> list[dict[str, Any]]:
    return [json.loads(frame[frame.index("{") :]) for frame in frames]


# -- ways --


def test_a_line_comes_by_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        door.settimeout(5)
        receivers.parse(f"syslog:127.0.0.1:{door.getsockname()[1]}").send([RECORD])
        frame = door.recv(65_000).decode()

    head, _dash, body = frame.partition(" - ")
    assert head.split()[0:2] == ["<12>1", "2026-01-31T08:00:00+00:00"]
    assert (head.split()[3], head.split()[5], json.loads(body)) == ("clawdbot", "clawdbot", {"message": "名字"})


def test_lines_come_by_tls_from_a_receiver_whose_certificate_is_good(tmp_path, monkeypatch):
    crt, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    collector = Collector(context)
    receiver = receivers.parse(f"syslog+tls:localhost:{collector.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(crt))

    receiver.send([RECORD, RECORD])
    collector.stop()

    assert bodies(collector.frames) == [{"message": "名字"}] * 2


def test_nothing_is_sent_by_tls_when_the_certificate_is_not_good(tmp_path):
    crt, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=lambda: _shake_once(door, context), daemon=True).start()
        with pytest.raises(ssl.SSLCertVerificationError):
            receivers.parse(f"syslog+tls:localhost:{door.getsockname()[1]}").send([RECORD])


def _shake_once(door: socket.socket, context: ssl.SSLContext) -> None:
    line, _from = door.accept()
    try:
        context.wrap_socket(line, server_side=True).close()
    except OSError:
        line.close()


def test_records_come_as_otlp(settings):
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.OUTBOUND_TRUSTED_ORIGINS = [f"127.0.0.1:{server.server_port}"]
    receiver = receivers.parse(f"otlp+http://127.0.0.1:{server.server_port}/v1/logs?token=canary")

    receiver.send([RECORD])
    server.shutdown()
    server.server_close()

    (resource,) = heard[0]["resourceLogs"]
    assert {"key": "service.name", "value": {"stringValue": "clawdbot"}} in resource["resource"]["attributes"]
    assert resource["scopeLogs"][0]["logRecords"] == [
        {
            "timeUnixNano": "1769846400000000000",
            "severityNumber": 13,
            "severityText": "WARN",
            "body": {"stringValue": RECORD.text},
        }
    ]
    assert "canary" not in receiver.name + repr(receiver)


@pytest.mark.parametrize("text", ["syslog:", "file:/x", "otlp+ftp://h/", "syslog+tls:host:port", "https://host/x"])
def test_a_receiver_that_is_none_is_refused(settings, text):
    settings.AUDIT_FORWARD_TO = [text]

    assert [error.id for error in check_audit_receivers()] == ["monitoring.E004"]
    with pytest.raises(ValueError, match="is no receiver"):
        logs.config("json", "INFO", None, forward_to=text)


# -- log lines --


def log_line(handler: logging.Handler, text: str, level: int = logging.INFO) -> None:
    handler.handle(logging.LogRecord("bots", level, "x.py", 1, text, (), None))


def handler_of(port: int, most_waiting: int = 100) -> log_forwarding.ForwardingHandler:
    handler = log_forwarding.ForwardingHandler(f"syslog+tcp:127.0.0.1:{port}", most_waiting)
    handler.setFormatter(logs.RedactingJsonFormatter())
    return handler


def test_log_lines_come_redacted_and_the_last_ones_at_the_end_of_the_process(collector):
    handler = handler_of(collector.port)
    log_line(handler, "first token=canary-0123456789abcdef")
    log_line(handler, "second\nforged", logging.ERROR)

    handler.close()

    assert [frame[:5] for frame in collector.frames] == ["<14>1", "<11>1"]
    assert [body["message"] for body in bodies(collector.frames)][1] == "second\\x0aforged"
    assert "canary" not in "".join(collector.frames)


def test_a_receiver_that_is_down_costs_the_caller_nothing_and_drops_are_counted(monkeypatch):
    monkeypatch.setattr(log_forwarding, "LAST_WORDS_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    handler = handler_of(port, most_waiting=5)
    before = metrics.LOG_LINES_DROPPED._value.get()

    began = time.monotonic()
    for number in range(2_000):
        log_line(handler, str(number))
    took_s = time.monotonic() - began
    handler.close()

    assert took_s < 2
    until(lambda: metrics.LOG_LINES_DROPPED._value.get() - before == 2_000, "what is lost is not counted")


# -- audit entries --


@pytest.fixture
def entries(db: None) -> None:
    for number in range(3):
        audit.record("bot.changed", target_label=f"bot {number}\n<1>1 forged")
    sealer.seal_waiting()


def test_entries_come_in_order_with_their_seals_and_once(settings, entries, collector):
    settings.AUDIT_FORWARD_TO = [f"syslog+tcp:127.0.0.1:{collector.port}"]

    audit_forwarding.forward_all()
    audit_forwarding.forward_all()
    audit.record("bot.deleted", outcome="refused")
    sealer.seal_waiting()
    audit_forwarding.forward_all()

    found = bodies(collector.frames)
    assert [body["seal"]["sequence"] for body in found] == [1, 2, 3, 4]
    assert [body["id"] for body in found] == [
        str(pk) for pk in AuditLog.objects.order_by("id").values_list("pk", flat=True)
    ]
    assert [frame[:6] for frame in collector.frames] == ["<109>1"] * 3 + ["<108>1"]
    assert "\n" not in "".join(collector.frames)


def test_a_receiver_that_was_down_gets_all_that_it_missed(settings, entries):
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    settings.AUDIT_FORWARD_TO = [f"syslog+tcp:127.0.0.1:{port}"]
    audit_forwarding.forward_all()
    failing = AuditSink.objects.get()
    assert (failing.copied_through, failing.error[:22]) == (0, "ConnectionRefusedError")

    collector = Collector()
    settings.AUDIT_FORWARD_TO = [f"syslog+tcp:127.0.0.1:{collector.port}"]
    AuditSink.objects.update(name=f"forward {settings.AUDIT_FORWARD_TO[0]}")  # the same one, started again
    audit_forwarding.forward_all()
    collector.stop()

    assert [body["seal"]["sequence"] for body in bodies(collector.frames)] == [1, 2, 3]
    assert AuditSink.objects.get().failing_since is None


def test_a_receiver_that_breaks_off_gets_the_entries_again(settings, entries):
    """It took a part and went away: the cursor stays where it was."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def reset() -> None:
            line, _from = door.accept()
            line.recv(10)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            line.close()

        breaking = threading.Thread(target=reset, daemon=True)
        breaking.start()
        settings.AUDIT_FORWARD_TO = [f"syslog+tcp:127.0.0.1:{door.getsockname()[1]}"]
        audit_forwarding.forward_all()
        breaking.join(5)

    state = AuditSink.objects.get()
    assert (state.copied_through, state.failing_since is not None) == (0, True)
