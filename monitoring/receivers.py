"""Central places that take log lines and audit entries: syslog (RFC 5424) by UDP, TCP or TLS, and OTLP by HTTP.

``syslog:host[:514]``, ``syslog+tcp:host[:514]``, ``syslog+tls:host[:6514]``, ``otlp+https://host[:port]/v1/logs``.
OTLP is written as JSON, which its receivers have to take: no exporter is needed for it.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from monitoring import outgoing
from monitoring.redaction import redact
from monitoring.text import printable

TIMEOUT_S: Final = 5.0
PORTS: Final = {"syslog": 514, "syslog+tcp": 514, "syslog+tls": 6514}
FACILITIES: Final = {"clawdbot": 1, "audit": 13}  # user level; log audit
# Severity of syslog -> number and word of OTLP.
SEVERITIES: Final = {
    2: (21, "FATAL"),
    3: (17, "ERROR"),
    4: (13, "WARN"),
    5: (10, "INFO2"),
    6: (9, "INFO"),
    7: (5, "DEBUG"),
}
LONGEST_DATAGRAM: Final = 60_000  # bytes; what is longer does not leave by UDP whole


@dataclass(frozen=True, slots=True)
class Record:
    """One line, as JSON; ``kind`` is ``clawdbot`` or ``audit``, ``severity`` one of syslog's."""

    at: datetime
    severity: int
    text: str = field(repr=False)
    kind: str = "clawdbot"


class Receiver(Protocol):
    @property
    def name(self) -> str:
        """Shown to admins: never a secret."""
        ...

    def send(self, records: Sequence[Record]) -> None:
        """Raises OSError, or what the HTTP client raises. Where it returns all have arrived (UDP: have left)."""
        ...


@dataclass(frozen=True, slots=True)
class Syslog:
    name: str
    transport: str
    host: str
    port: int

    def send(self, records: Sequence[Record]) -> None:
        frames = [_frame(record) for record in records]
        if self.transport == "syslog":
            self._by_datagrams(frames)
        else:
            self._by_stream(frames)

    def _by_datagrams(self, frames: list[bytes]) -> None:
        family, kind, protocol, _name, where = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as line:
            line.settimeout(TIMEOUT_S)
            line.connect(where)
            for frame in frames:
                line.send(frame[:LONGEST_DATAGRAM])

    def _by_stream(self, frames: list[bytes]) -> None:
        """Counted octets (RFC 6587, 5425). Then our end is closed and theirs awaited: it comes after all was read."""
        with socket.create_connection((self.host, self.port), TIMEOUT_S) as plain:
            line = plain
            if self.transport == "syslog+tls":
                line = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
            with line:
                line.sendall(b"".join(b"%d %b" % (len(frame), frame) for frame in frames))
                if isinstance(line, ssl.SSLSocket):
                    _end_tls(line)
                    return
                line.shutdown(socket.SHUT_WR)
                while line.recv(4096):
                    pass


def _end_tls(line: ssl.SSLSocket) -> None:
    """Some close without a notice of their own; that is an end as well, a reset connection is none."""
    try:
        line.unwrap()
    except OSError as error:
        if error.errno not in (0, ssl.SSL_ERROR_EOF):
            raise


@dataclass(frozen=True, slots=True)
class Otlp:
    name: str
    url: str = field(repr=False)

    def send(self, records: Sequence[Record]) -> None:
        resource = {"attributes": [_attribute("service.name", "clawdbot"), _attribute("host.name", _host())]}
        by_kind = {kind: [_otlp(record) for record in records if record.kind == kind] for kind in FACILITIES}
        scopes = [{"scope": {"name": kind}, "logRecords": found} for kind, found in by_kind.items() if found]
        outgoing.post(self.url, {"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]})


def parse(text: str) -> Receiver:
    """Raises ValueError with a sentence that says what to write."""
    kind, _, rest = text.partition(":")
    parts = urlsplit(text.removeprefix("otlp+") if kind.startswith("otlp+http") else f"//{rest.removeprefix('//')}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host and kind in PORTS:
        return Syslog(text, kind, host, port or PORTS[kind])
    if host and kind in ("otlp+https", "otlp+http"):
        where = f"[{host}]" if ":" in host else host
        return Otlp(f"{kind}://{where}{f':{port}' if port else ''}{parts.path}", text.removeprefix("otlp+"))
    ways = "syslog:host:514, syslog+tcp:host:514, syslog+tls:host:6514 or otlp+https://host/v1/logs"
    raise ValueError(f"{printable(redact(text))} is no receiver. Write {ways}.")


def _frame(record: Record) -> bytes:
    priority = FACILITIES[record.kind] * 8 + record.severity
    head = f"<{priority}>1 {record.at.isoformat()} {_host()} clawdbot {os.getpid()} {record.kind} - "
    return head.encode("ascii", "replace") + record.text.encode("utf-8", "replace")


def _host() -> str:
    return printable(socket.gethostname(), 255).replace(" ", "-") or "-"


def _otlp(record: Record) -> dict[str, Any]:
    number, word = SEVERITIES.get(record.severity, SEVERITIES[6])
    return {
        "timeUnixNano": str(int(record.at.timestamp() * 1_000_000) * 1_000),
        "severityNumber": number,
        "severityText": word,
        "body": {"stringValue": record.text},
    }


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
