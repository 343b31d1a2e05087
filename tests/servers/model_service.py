"""A fake OpenAI-compatible model service on a real socket. Unscripted it answers like the echo engine.

with ModelService() as service:
    service.script(Script(status=503), Script(["Hel", "lo"]))   # one each, the last one for ever
    engine = OpenAIEngine(service.base_url, "m", service.api_key, httpx.Client())
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.echo import EchoEngine

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Script:
    """How to answer one request. ``pieces`` are texts, or whole deltas; None echoes."""

    pieces: Sequence[str | Json] | None = None
    status: int = 200
    body: str = ""  # with another status, or instead of a stream with ``as_json``
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0  # before the headers
    piece_s: float = 0.0  # before each piece
    stall_after: int = -1  # pieces
    cut_after: int = -1
    keeps_alive_by_comments: bool = False  # while it waits for its next piece
    finish: str | None = "stop"
    usage: Json | None = field(default_factory=lambda: {"prompt_tokens": 11, "completion_tokens": 7})
    raw: bytes | None = None  # the whole stream, written in pieces of one byte
    as_json: bool = False
    is_done: bool = True


@dataclass(slots=True)
class Asked:
    path: str
    headers: dict[str, str]
    body: Json
    at: float = field(default_factory=time.monotonic)
    written_at: list[float] = field(default_factory=list)  # when each piece went out
    left: threading.Event = field(default_factory=threading.Event)  # the client closed before the end


class ModelService:
    def __init__(self, api_key: str = "model-key-4711", has_completions: bool = False) -> None:
        self.api_key = api_key
        self.further_keys: set[str] = set()
        self.has_completions = has_completions
        self.refuses_stream_options = False
        self.requests: list[Asked] = []
        self._scripts: list[Script] = [Script()]
        self._lock = threading.Lock()
        self._server = _Server(self)

    @property
    def base_url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/v1"

    def script(self, *scripts: Script) -> None:
        self._scripts = list(scripts)

    def next_script(self) -> Script:
        with self._lock:
            return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    def __enter__(self) -> ModelService:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, service: ModelService) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no errors here."""


class _ClientLeft(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(self.path, dict(self.headers), body)
        self.server.service.requests.append(asked)
        try:
            self._answer(asked, self.server.service)
        except (_ClientLeft, ConnectionError):
            asked.left.set()
            self.close_connection = True

    def _answer(self, asked: Asked, service: ModelService) -> None:
        if asked.headers.get("Authorization") not in {
            f"Bearer {key}" for key in (service.api_key, *service.further_keys)
        }:
            return self._send(401, {"error": {"message": f"wrong key {asked.headers.get('Authorization')}"}})
        known = ["/v1/chat/completions"] + ["/v1/completions"] * service.has_completions
        if asked.path not in known:
            return self._send(404, {"error": {"message": "no such call"}})
        if service.refuses_stream_options and "stream_options" in asked.body:
            return self._send(400, {"error": {"message": "Unrecognized request argument: stream_options"}})
        script = service.next_script()
        self._sleep(script.wait_s)
        if script.status != 200 or script.as_json:
            return self._send(script.status, script.body, script.headers)
        return self._stream(asked, script)

    def _send(self, status: int, body: str | Json, headers: dict[str, str] | None = None) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, asked: Asked, script: Script) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if script.raw is not None:
            for byte in script.raw:
                self._chunk(bytes([byte]))
            return self._chunk(b"")
        pieces, finish, usage = (
            _echoed(asked.body) if script.pieces is None else (script.pieces, script.finish, script.usage)
        )
        self._event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for count, piece in enumerate(pieces):
            self._sleep(60 if count == script.stall_after else script.piece_s, script.keeps_alive_by_comments)
            if count == script.cut_after:
                return self._cut()
            delta = {"content": piece} if isinstance(piece, str) else piece
            asked.written_at.append(time.monotonic())
            self._event({"choices": [{"index": 0, "delta": delta, "text": delta.get("content")}]})
        if finish:
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage and asked.body.get("stream_options", {}).get("include_usage"):
            self._event({"choices": [], "usage": usage})
        if script.is_done:
            self._chunk(b"data: [DONE]\n\n")
        return self._chunk(b"")

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _event(self, event: Json) -> None:
        self._chunk(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _sleep(self, seconds: float, sends_comments: bool = False) -> None:
        """Sleep, but notice when the client closes."""
        ends_at = time.monotonic() + seconds
        while True:
            readable, _, _ = select.select([self.connection], [], [], min(0.05, max(0.0, ends_at - time.monotonic())))
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                raise _ClientLeft
            if time.monotonic() >= ends_at:
                return
            if sends_comments:
                self._chunk(b": still busy\n\n")


def _echoed(body: Json) -> tuple[list[str], str, Json]:
    """Answer like the echo engine: its tokens, its stop strings, its limit."""
    messages = tuple(ChatMessage(m["role"], _text(m["content"])) for m in body.get("messages", []))
    sampling = SamplingParams(max_new_tokens=body.get("max_tokens", 1024), stop=tuple(body.get("stop", ())))
    reply = EchoEngine().submit(GenRequest("echoed", messages, sampling))
    pieces = [delta.text for delta in reply if delta.text]
    result = reply.result()
    counts = {"prompt_tokens": result.usage.prompt_tokens, "completion_tokens": result.usage.completion_tokens}
    return pieces, result.finish, counts


def _text(content: str | list[Json]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


@contextlib.contextmanager
def closed_port() -> Any:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
