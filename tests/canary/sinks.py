"""Where a secret could come out: everything that a site wrote, answered or kept, as bytes with a name."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import redis

from scripts import servers
from tests.canary.search import Search

BY_KIND = {"string": "get", "list": "lrange", "hash": "hgetall", "set": "smembers", "zset": "zrange"}


class Sinks:
    """``shows`` names the secrets that a part is there to show, such as the answer that makes an API key."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, bytes, frozenset[str]]] = []

    def add(self, name: str, data: bytes | str, shows: Iterable[str] = ()) -> None:
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        self._parts.append((name, raw, frozenset(shows)))

    def add_folder(self, name: str, folder: Path, but: Collection[str] = ()) -> None:
        """Names of files and their contents."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not {*path.relative_to(folder).parts} & {*but}:
                self.add(name, f"{path.name}\n".encode() + path.read_bytes())

    def leaks(self, search: Search) -> list[str]:
        found = {(name, hit) for name, data, shows in self._parts for hit in search.hits(data) if hit.name not in shows}
        by_place: dict[str, list[str]] = {}
        for name, hit in sorted(found):
            by_place.setdefault(f"{name}: the {hit.name}", []).append(hit.form)
        return [f"{place}, as {', '.join(written)}" for place, written in by_place.items()]

    def with_hits(self, search: Search) -> set[str]:
        return {name for name, data, _shows in self._parts if search.hits(data)}

    def empty(self) -> set[str]:
        return self.names() - {name for name, data, _shows in self._parts if data.strip()}

    def names(self) -> set[str]:
        return {name for name, _data, _shows in self._parts}


class Monitor:
    """Every command that a Redis is given, with its arguments: what is queued, cached and published."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._heard = bytearray()

    def __enter__(self) -> Self:
        assert self._parts.port
        self._line = socket.create_connection(("127.0.0.1", self._parts.port))
        self._line.sendall(f"AUTH {self._parts.password}\r\nMONITOR\r\n".encode())
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # Redis may have gone first
            self._line.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._line.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while piece := self._line.recv(1 << 16):
                self._heard += piece

    @property
    def heard(self) -> bytes:
        """As it was shown, and once more with the bytes in place of their escapes."""
        shown = bytes(self._heard)
        return shown + re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), shown)


def kept_in_redis(url: str) -> bytes:
    store: Any = redis.Redis.from_url(url)
    parts: list[str] = []
    for name in store.scan_iter(count=1000):
        kind = store.type(name).decode()
        more = (0, -1) if kind in ("list", "zset") else ()
        parts.append(f"{name!r} {getattr(store, BY_KIND[kind])(name, *more)!r}")
    store.close()
    return "\n".join(parts).encode()


def dumped(url: str) -> bytes:
    """All tables, sequences and definitions as SQL."""
    return _output("pg_dump", "--inserts", url)


def restored(dump: Path) -> bytes:
    """A dump in PostgreSQL's own format, as SQL: it is packed piece by piece."""
    return _output("pg_restore", "--file=-", str(dump))


def _output(name: str, *words: str) -> bytes:
    program = servers.program(name)
    assert program, f"{name} is not installed"
    return subprocess.run([program, *words], check=True, capture_output=True).stdout


def command_lines(pids: Iterable[int]) -> bytes:
    """What anybody on the machine reads of these processes; their environment only its user does."""
    return b"\n".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
