"""Where copies of signed checkpoints go: places that the database's owner cannot write (rule U6).

``file:<folder>``, ``syslog:`` (this machine), ``syslog:host[:port]`` (UDP), ``syslog+tcp:host[:port]``, ``https://…``
(a POST of JSON). A sink that fails is tried again every few seconds and shown; nothing waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from monitoring import signing
from monitoring.alerts import close_alert, open_alert
from monitoring.models import AuditCheckpoint, AuditSink
from monitoring.redaction import redact
from monitoring.text import printable

logger = logging.getLogger(__name__)

AT_ONCE: Final = 500
TIMEOUT_S: Final = 5.0
PATIENCE: Final = timedelta(minutes=5)  # then an alert is opened
SYSLOG_PORT: Final = 514
LOCAL_SYSLOG: Final = "/dev/log"
SYSLOG_PRIORITY: Final = 13 * 8 + 5  # log audit, notice (RFC 5424)
Copy = dict[str, str]
Post = Callable[[str, dict[str, Any]], None]
_post: Post | None = None


class Sink(Protocol):
    @property
    def name(self) -> str:
        """Shown to admins: never a secret."""
        ...

    def send(self, copies: Sequence[Copy]) -> None:
        """Raises OSError, or what the HTTP client raises."""
        ...


def register_post(post: Post) -> None:
    """The guarded HTTP client lives above: who has it lends it at the start."""
    global _post
    _post = post


@dataclass(frozen=True, slots=True)
class FileSink:
    """Appends to a file a month in a folder, synced to the disk, readable by its owner only."""

    folder: Path
    name: str

    def send(self, copies: Sequence[Copy]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_key()
        text = "".join(json.dumps(copy, sort_keys=True) + "\n" for copy in copies)
        path = self.folder / f"checkpoints-{timezone.now():%Y-%m}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)

    def read(self) -> Iterator[Copy]:
        for path in sorted(self.folder.glob("checkpoints-*.jsonl")):
            with path.open(encoding="utf-8") as lines:
                yield from (_copy_of(line) for line in lines if line.strip())

    def _write_key(self) -> None:
        path = self.folder / "key.json"
        if not path.exists():
            path.write_text(key_text(), "utf-8")


@dataclass(frozen=True, slots=True)
class SyslogSink:
    """One line a checkpoint, in RFC 5424's form."""

    name: str
    address: tuple[str, int] | None  # None: this machine's
    is_tcp: bool = False

    def send(self, copies: Sequence[Copy]) -> None:
        with self._open() as line:
            for copy in copies:
                frame = _syslog_line(copy)
                line.sendall(f"{len(frame)} ".encode() + frame if self.is_tcp else frame)  # RFC 6587: octet counting

    def _open(self) -> socket.socket:
        if self.address is None:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            line.settimeout(TIMEOUT_S)
            line.connect(LOCAL_SYSLOG)
            return line
        if self.is_tcp:
            return socket.create_connection(self.address, TIMEOUT_S)
        family, kind, protocol, _name, where = socket.getaddrinfo(*self.address, type=socket.SOCK_DGRAM)[0]
        line = socket.socket(family, kind, protocol)
        line.settimeout(TIMEOUT_S)
        line.connect(where)
        return line


@dataclass(frozen=True, slots=True)
class HttpsSink:
    name: str
    url: str = field(repr=False)  # its query may hold a token

    def send(self, copies: Sequence[Copy]) -> None:
        if _post is None:
            raise OSError("no HTTP client was lent")
        _post(self.url, {"site": settings.PUBLIC_URL, "checkpoints": list(copies)})


def parse(text: str) -> Sink:
    """Raises ValueError with a sentence that says what to write."""
    kind, _, rest = text.partition(":")
    if kind == "file" and rest:
        return FileSink(Path(rest), f"file:{rest}")
    if kind in ("syslog", "syslog+tcp") and (rest or kind == "syslog"):
        return SyslogSink(text, _address(text, rest), kind == "syslog+tcp")
    parts = urlsplit(text)
    if kind == "https" and parts.hostname:
        port = f":{parts.port}" if parts.port else ""
        return HttpsSink(f"https://{parts.hostname}{port}{parts.path}", text)
    raise ValueError(f"{printable(redact(text))} is no sink. Write file:/folder, syslog:host:514 or https://host/path.")


def configured() -> list[Sink]:
    return [parse(text) for text in settings.AUDIT_SINKS]


def readable() -> list[tuple[str, Iterator[Copy]]]:
    """Those whose copies can be read back: the files."""
    return [(sink.name, sink.read()) for sink in configured() if isinstance(sink, FileSink)]


def key_text() -> str:
    """The present public key, and how it took over from those before it."""
    key, handovers = signing.signer(), signing.handovers()
    shown = {"algorithm": "Ed25519", "public": key.public.hex(), "fingerprint": key.fingerprint, "handovers": handovers}
    return json.dumps(shown) + "\n"


def complaints() -> list[str]:
    """Sinks that fail or lag, in words, and whether all of them are on this machine."""
    found = troubles()
    if not any(isinstance(sink, HttpsSink | SyslogSink) for sink in configured()):
        found.append(_("All copies lie on this machine: name a sink on another host in AUDIT_SINKS."))
    return found


def troubles() -> list[str]:
    """Sinks that fail or lag, in words."""
    newest = AuditCheckpoint.objects.values_list("number", flat=True).first() or 0
    states = {state.name: state for state in AuditSink.objects.all()}
    found = []
    for sink in configured():
        state = states.get(sink.name)
        if state and state.failing_since:
            text = _("%(sink)s takes no copies since %(since)s UTC: %(error)s")
            since = f"{state.failing_since:%Y-%m-%d %H:%M}"
            found.append(text % {"sink": sink.name, "since": since, "error": state.error})
        elif newest and (state is None or state.copied_through == 0):
            found.append(_("%(sink)s has no copy yet.") % {"sink": sink.name})
    return found


# -- copying --

_newest_sent: dict[str, int] = {}  # of this process: the table may be edited, this not


def copy_all() -> None:
    """Give every sink what it lacks. For the scheduler; a repeat does no harm."""
    for sink in configured():
        state, _is_new = AuditSink.objects.get_or_create(name=sink.name)
        try:
            _copy(sink, state)
        except Exception as error:  # noqa: BLE001  (the outermost loop: whatever is wrong with one, the others get theirs)
            _note_failure(state, error)


def _copy(sink: Sink, state: AuditSink) -> None:
    while rows := _lacking(sink, state):
        sink.send([row.as_copy() for row in rows])
        _newest_sent[sink.name] = rows[-1].number
        state.copied_through, state.copied_at = rows[-1].number, timezone.now()
        state.failing_since, state.error = None, ""
        state.save()
        close_alert("audit.sink", subject=sink.name)


def _lacking(sink: Sink, state: AuditSink) -> list[AuditCheckpoint]:
    """What comes after the last copy; and the newest one in any case, whatever the table of sinks says."""
    rows = list(AuditCheckpoint.objects.filter(number__gt=state.copied_through).order_by("number")[:AT_ONCE])
    newest = AuditCheckpoint.objects.first()
    if rows or newest is None or _newest_sent.get(sink.name) == newest.number:
        return rows
    return [newest] if sink.name in _newest_sent or state.copied_through != newest.number else []


def _note_failure(state: AuditSink, error: Exception) -> None:
    now = timezone.now()
    state.failing_since = state.failing_since or now
    state.error = printable(redact(f"{type(error).__name__}: {error}"), 300)
    state.save()
    logger.warning("an audit sink takes no copies", extra={"sink": state.name, "error": state.error})
    if _is_overdue(state.failing_since, now):
        open_alert("audit.sink", f"{state.name} takes no copies of the audit log's checkpoints", subject=state.name)


def _is_overdue(since: datetime, now: datetime) -> bool:
    return now - since >= PATIENCE


def _copy_of(line: str) -> Copy:
    """A line cut short by a full disk is a checkpoint that cannot be read, which the verifier says."""
    try:
        copy = json.loads(line)
    except ValueError:
        return {}
    return dict(copy) if isinstance(copy, dict) else {}


def _syslog_line(copy: Copy) -> bytes:
    at, host = timezone.now().isoformat(), printable(socket.gethostname(), 255) or "-"
    return f"<{SYSLOG_PRIORITY}>1 {at} {host} clawdbot - audit - {json.dumps(copy, sort_keys=True)}".encode()


def _address(text: str, rest: str) -> tuple[str, int] | None:
    if not rest:
        return None
    parts = urlsplit(f"//{rest.removeprefix('//')}")
    try:
        host, port = parts.hostname, parts.port or SYSLOG_PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise ValueError(f"{printable(text)} names no host. Write syslog:host:514.")
    return host, port
