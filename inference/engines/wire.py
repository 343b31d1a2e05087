"""How another thread ends an HTTP call that blocks: it shuts the socket down under it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

_LOOK_EVERY_S = 0.05
_CONNECTED = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")


class Wire:
    """The socket under one call. The call must have a connection of its own (HTTP/1.1, ``Connection: close``)."""

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at  # time.monotonic(); moved on by the reading thread
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    @property
    def is_expired(self) -> bool:
        return time.monotonic() >= self.expires_at

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's ``trace`` extension: tells the socket long before the response does."""
        if event.endswith(_CONNECTED):
            self.attach(info.get("return_value"))

    def attach(self, stream: Any) -> None:
        """Take the socket of httpcore's network stream. Other transports have none, and cannot be woken."""
        found = stream.get_extra_info("socket") if hasattr(stream, "get_extra_info") else None
        with self._lock:
            self._socket = found if isinstance(found, socket.socket) else None
            if self._is_cut:
                self._shut_down()

    def cut(self) -> None:
        """Wake the thread that waits for this call, at once and for good; from any thread."""
        with self._lock:
            self._is_cut = True
            self._shut_down()

    def release(self) -> None:
        """The call is over: its socket is nobody's business any more."""
        with self._lock:
            self._socket = None

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # gone already
                # Not SSLSocket's own shutdown: that one drops the TLS state under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Watchdog:
    """Cuts wires whose time is up, for timeouts that a socket does not know. Its thread lives while there are wires."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wires: set[Wire] = set()
        self._is_running = False

    @contextlib.contextmanager
    def watching(self, wire: Wire) -> Iterator[None]:
        with self._lock:
            self._wires.add(wire)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="openai-watchdog", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._wires.discard(wire)

    def _run(self) -> None:
        while wires := self._watched():
            for wire in wires:
                if wire.is_expired:
                    wire.cut()
            time.sleep(_LOOK_EVERY_S)

    def _watched(self) -> list[Wire]:
        with self._lock:
            self._is_running = bool(self._wires)
            return list(self._wires)
