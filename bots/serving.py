"""Daphne, as ClawdBot runs it: bounded reading, no access log, an own or inherited socket, an end that cuts nobody off.

Daphne by itself cancels at its stop whatever is in flight. Here it stops accepting, lets open requests finish, and
stops then. WebSockets are not waited for: their clients come back and get what they missed.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from channels.routing import get_default_application
from daphne import server as daphne
from daphne.http_protocol import WebRequest

from clawdbot_site.security.port import MESSAGE_BYTES, BoundedFactory, BoundedSocketFactory

logger = logging.getLogger(__name__)
FINISH_S: Final = 10.0
LOOK_S: Final = 0.05
QUIET_LOOKS: Final = 3  # what has been sent to us and not been read yet shows itself within these


class GracefulServer(daphne.Server):
    """``finish_requests`` and ``end`` may be called from any thread while ``run`` runs in the main one."""

    is_finishing = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ports: list[Any] = []
        self.connections: dict[Any, dict[str, Any]] = {}

    def run(self) -> None:
        daphne.HTTPFactory, daphne.WebSocketFactory = BoundedFactory, BoundedSocketFactory  # what it makes channels by
        super().run()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if cut := getattr(protocol, "cut", ""):
            scope["clawdbot.cut"] = cut
        return super().create_application(protocol, scope)

    def listen_success(self, port: Any) -> None:
        self._ports.append(port)
        super().listen_success(port)

    def finish_requests(self) -> int:
        """Accept nobody any more, wait until open requests are answered, at most 10 s. Returns how many are not."""
        _in_reactor(self._stop_accepting)
        end, quiet = time.monotonic() + FINISH_S, 0
        while quiet < QUIET_LOOKS and time.monotonic() < end:
            time.sleep(LOOK_S)
            quiet = quiet + 1 if not self._open_requests() else 0
        left = self._open_requests()
        if left:
            logger.warning("requests were cut off at the end", extra={"requests": left})
        return left

    def end(self) -> None:
        _in_reactor(self.stop)

    def handle_reply(self, protocol: Any, message: dict[str, Any]) -> Any:
        """Answers that begin from now on close their connection: a proxy must not send another request by it."""
        if self.is_finishing and message.get("type") == "http.response.start" and isinstance(protocol, WebRequest):
            message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            if protocol.channel is not None:
                protocol.channel.persistent = False
        return super().handle_reply(protocol, message)

    def kill_all_applications(self) -> Any:
        """Daphne's own forgets that a connection may have no application yet, or no more."""
        self.connections = {key: one for key, one in self.connections.items() if "application_instance" in one}
        return super().kill_all_applications()

    def _stop_accepting(self) -> None:
        self.is_finishing = True
        for port in self._ports:
            port.doRead()  # who has connected already would be reset when the socket closes
            port.stopListening()

    def _open_requests(self) -> int:
        connections = list(self.connections.items())
        return sum(isinstance(key, WebRequest) and "disconnected" not in one for key, one in connections)


def server(endpoint: str, ready: Callable[[], None]) -> GracefulServer:
    """Serves the site's ASGI application on a Twisted endpoint. No access log: its paths would hold secrets."""
    return GracefulServer(
        application=get_default_application(),
        endpoints=[endpoint],
        signal_handlers=False,
        action_logger=None,
        http_timeout=None,
        websocket_timeout=-1,
        websocket_max_message_size=MESSAGE_BYTES,
        websocket_max_frame_size=MESSAGE_BYTES,
        application_close_timeout=5,
        ready_callable=ready,
        server_name="ClawdBot",
        verbosity=0,
    )


def own_socket(host: str, port: int) -> str:
    """The endpoint that listens on an address."""
    return f"tcp:port={port}:interface={host.replace(':', chr(92) + ':')}"


def inherited_socket(fd: int) -> tuple[str, str, int]:
    """The endpoint of a listening socket that whoever started us holds, its host and its port. Raises OSError.

    The holder keeps it open between two of our lives: connections wait in it, and none is refused.
    """
    with socket.socket(fileno=os.dup(fd)) as held:
        host, port = held.getsockname()[:2]
        if held.family != socket.AF_INET:
            raise OSError(errno.EAFNOSUPPORT, "it is not IPv4")  # all that Daphne can take over
    return f"fd:fileno={fd}", host, port


def tell_service_manager(state: str) -> None:
    """systemd's ``READY=1`` or ``STOPPING=1`` (sd_notify(3)); without a service manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def _in_reactor(work: Callable[[], None]) -> None:
    from twisted.internet import reactor as running  # Daphne has chosen which one by now

    reactor: Any = running  # no type checker knows which one it is
    reactor.callFromThread(work)
