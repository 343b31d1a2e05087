"""What is read from a connection, on the real server: how much, how fast, and what is answered (rule W4)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.site import ROOT, until

pytestmark = pytest.mark.rule("W4")
HEADERS_S, BODY_S, LINGER_S = 0.4, 0.6, 1.5
MIB = 1024 * 1024
CALLBACK = "/webhooks/feishu/k/"


class Server:
    def __init__(self) -> None:
        words = [sys.executable, "-m", "tests.servers.bounded", *map(str, (HEADERS_S, BODY_S, LINGER_S))]
        self.process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @property
    def highest_memory_mib(self) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def ask(self, head: str, *pieces: bytes) -> tuple[int, bytes]:
        """Status and body of the answer, which may come while we are still sending."""
        with self.connect() as connection:
            connection.sendall(head.encode())
            for piece in pieces:
                connection.sendall(piece)
            return answer(connection)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.process.kill()
    running.process.communicate()


def head(path: str = CALLBACK, *lines: str, method: str = "POST") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""])


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Reads to the end of the body, or of the connection."""
    read = b""
    while b"\r\n\r\n" not in read and (more := connection.recv(65536)):
        read += more
    headers, _, body = read.partition(b"\r\n\r\n")
    length = int(headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length and (more := connection.recv(65536)):
        body += more
    return int(headers.split()[1]) if headers else 0, body


def code(body: bytes) -> str:
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    return str(error["code"])


def in_chunks(size: int, of: int = 65536) -> Iterator[bytes]:
    for _ in range(size // of):
        yield b"%x\r\n" % of + b"x" * of + b"\r\n"
    yield b"0\r\n\r\n"


def test_a_body_of_200_megabytes_costs_no_memory_and_is_refused_before_it_is_sent(server):
    before = server.highest_memory_mib
    with server.connect() as connection:
        connection.sendall(head(CALLBACK, "Content-Length: 200000000").encode())
        assert answer(connection)[0] == 413, "the answer comes though nothing of the body was sent"
    status, body = server.ask(head(CALLBACK, "Content-Length: 200000000"), *[b"x" * 1_000_000] * 200)

    assert (status, code(body)) == (413, "too_large")
    assert server.highest_memory_mib - before < 12


def test_a_chunked_body_is_counted_as_it_comes(server):
    before = server.highest_memory_mib
    status, body = server.ask(head(CALLBACK, "Transfer-Encoding: chunked"), *in_chunks(100 * MIB))

    assert (status, code(body)) == (413, "too_large")
    assert server.highest_memory_mib - before < 12


@pytest.mark.parametrize(("path", "most"), [(CALLBACK, MIB), ("/api/v1/hooks/k/", MIB), ("/v1/x", 10 * MIB)])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_each_area_takes_its_own_sizes(server, path, most, is_chunked):
    def size_of(size: int) -> tuple[int, bytes]:
        if is_chunked:
            return server.ask(head(path, "Transfer-Encoding: chunked"), *in_chunks(size, of=size))
        return server.ask(head(path, f"Content-Length: {size}"), b"x" * size)

    assert size_of(most) == (200, b'{"size": %d}' % most)
    assert size_of(most + 1)[0] == 413


def test_the_spelling_of_a_path_changes_no_limit(server):
    assert server.ask(head("/%77ebhooks/feishu/k/?a=1", "Content-Length: 1048577"))[0] == 413


def test_what_is_expected_is_refused_instead_of_continued(server):
    status, _body = server.ask(head(CALLBACK, "Content-Length: 200000000", "Expect: 100-continue"))
    assert status == 413
    with server.connect() as connection:
        connection.sendall(head(CALLBACK, "Content-Length: 2", "Expect: 100-continue").encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert answer(connection) == (200, b'{"size": 2}')


def test_a_body_that_trickles_in_is_answered_408_in_time(server):
    started = time.monotonic()
    with server.connect() as connection:
        connection.sendall(head(CALLBACK, "Content-Length: 1000").encode())
        connection.settimeout(0.05)
        status, body = 0, b""
        while not status and time.monotonic() - started < 10:
            connection.sendall(b"x")
            try:
                status, body = answer(connection)
            except TimeoutError:
                continue
    assert (status, code(body)) == (408, "too_slow")
    assert BODY_S <= time.monotonic() - started < BODY_S + 1.5


def test_a_body_that_is_long_and_fast_enough_has_its_time(server):
    with server.connect() as connection:
        connection.sendall(head(CALLBACK, "Content-Length: 100000").encode() + b"x" * 50_000)
        time.sleep(BODY_S + 0.4)
        connection.sendall(b"x" * 50_000)
        assert answer(connection) == (200, b'{"size": 100000}')


@pytest.mark.parametrize("sent", ["POST /webho", head()[:-2]])
def test_headers_that_trickle_in_are_answered_408_in_time(server, sent):
    started = time.monotonic()
    with server.connect() as connection:
        connection.settimeout(0.05)
        connection.sendall(sent.encode())
        status, body = 0, b""
        while not status and time.monotonic() - started < 10:
            connection.sendall(b"X")
            try:
                status, body = answer(connection)
            except TimeoutError:
                continue
    assert (status, code(body)) == (408, "too_slow")
    assert HEADERS_S <= time.monotonic() - started < HEADERS_S + 1.5


@pytest.mark.parametrize(
    ("request_head", "status", "said"),
    [
        (head("/" + "x" * 20_000), 414, "address_too_long"),
        (head("/", "X-Long: " + "x" * 20_000), 431, "headers_too_large"),
        (head("/", *[f"X-{n}: {'x' * 1000}" for n in range(60)]), 431, "headers_too_large"),
        (head("/", *[f"X-{n}: 1" for n in range(200)]), 431, "headers_too_large"),
        (head("/", "Content-Length: " + "9" * 5000), 400, "bad_request"),
        (head("/", "Content-Length: 1", "Content-Length: 2"), 400, "bad_request"),
        (head("/", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, "bad_request"),
        (head("/", "Content-Length: -1"), 400, "bad_request"),
        (head("/", "no colon"), 400, "bad_request"),
        ("nonsense\r\n\r\n", 400, "bad_request"),
    ],
)
def test_what_is_no_request_is_told_so(server, request_head, status, said):
    got, body = server.ask(request_head, b"x" * 100)
    assert (got, code(body)) == (status, said)


def test_a_chunk_that_is_none_is_told_so(server):
    assert server.ask(head(CALLBACK, "Transfer-Encoding: chunked"), b"zz\r\n")[0] == 400


def test_requests_on_one_connection_are_answered_in_turn(server):
    with server.connect() as connection:
        for size in (3, 200_000, 0):
            connection.sendall(head(CALLBACK, f"Content-Length: {size}").encode() + b"x" * size)
            assert answer(connection) == (200, b'{"size": %d}' % size)
        two = head(CALLBACK, "Content-Length: 3") + "abc"
        connection.sendall(two.encode() * 2)
        read = b""
        while read.count(b'{"size": 3}') < 2:
            read += connection.recv(65536)
        time.sleep(HEADERS_S + 0.3)
        connection.sendall(two.encode())
        assert answer(connection)[0] == 200, "who waits between two requests is not slow"


def test_a_refused_connection_ends_when_its_sender_does_not(server):
    with server.connect() as connection:
        connection.sendall(head(CALLBACK, "Content-Length: 200000000").encode())
        assert answer(connection)[0] == 413
        assert connection.recv(100) == b"", "nothing more is said"
        assert until(lambda: is_cut(connection), "the connection stays open", LINGER_S + 2)


def is_cut(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x" * 1000)
    except OSError:
        return True
    return False


@pytest.mark.rule("E10")
def test_the_server_keeps_no_access_log():
    """Its paths would hold keys; what is worth a line, ours say."""
    quiet = Server()
    assert quiet.ask(head("/webhooks/feishu/planted/", "Content-Length: 2"), b"{}")[0] == 200

    quiet.process.terminate()
    assert "planted" not in quiet.process.communicate()[0]


def test_a_websocket_takes_frames_of_a_megabyte_and_few_at_a_time(server):
    def upgraded() -> socket.socket:
        connection = server.connect()
        lines = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        asked = head("/ws/chat/x/", *lines, "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", method="GET")
        connection.sendall(asked.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 101")
        return connection

    def closed_with(connection: socket.socket) -> int:
        frame = connection.recv(65536)
        assert frame[0] == 0x88
        return int.from_bytes(frame[2:4], "big")

    with upgraded() as connection:
        connection.sendall(b"\x81\xff" + (MIB + 1).to_bytes(8, "big") + bytes(4))
        assert closed_with(connection) == 1009
    with upgraded() as connection:
        connection.sendall((b"\x81\x81" + bytes(4) + b"x") * 100)
        assert closed_with(connection) == 4429
