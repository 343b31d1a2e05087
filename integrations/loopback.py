"""A loopback HTTP server on which a simulator plays a chat platform. For `manage.py simulate`; no account needed."""

from __future__ import annotations

import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Callback:
    """What the platform would POST to the site."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Seen:
    """What the person sees: text by message, and whether the last one is complete."""

    texts: dict[str, str] = field(default_factory=dict)
    is_complete: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.texts.values())


class PlatformSimulator(ABC):
    """Answers the calls that the site makes to the platform, and tells ``changed`` what the person sees."""

    def __init__(self, changed: Callable[[Seen], None]) -> None:
        self.seen, self._changed, self.image = Seen(), changed, b""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="simulator", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def show(self, key: str, text: str, *, is_complete: bool) -> None:
        self.seen.texts[key], self.seen.is_complete = text, is_complete
        self._changed(self.seen)

    @abstractmethod
    def credential(self) -> dict[str, str]:
        """The fields of a credential with random secrets that this simulator knows."""

    @abstractmethod
    def message(self, text: str, image: bytes = b"") -> Callback:
        """A person's direct message, signed as the platform signs: a text, a picture, or both in one."""

    @abstractmethod
    def answer(self, method: str, path: str, body: Json) -> Json | bytes:
        """The platform's answer to one call; bytes for a file."""


def _handler(simulator: PlatformSimulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            try:
                body = json.loads(self.rfile.read(length) or b"{}")
            except ValueError:
                body = {}
            found = simulator.answer(self.command, self.path, body)
            answer = found if isinstance(found, bytes) else json.dumps(found).encode()
            kind = "application/octet-stream" if isinstance(found, bytes) else "application/json"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the command prints what the person sees."""

    return Handler


def matches(pattern: str, path: str) -> re.Match[str] | None:
    return re.fullmatch(pattern, path.partition("?")[0])


def plain(value: Mapping[str, Any] | str) -> Json:
    """Feishu and DingTalk send JSON inside JSON."""
    return dict(json.loads(value)) if isinstance(value, str) else dict(value)
