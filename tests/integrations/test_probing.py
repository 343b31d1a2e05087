"""A check ends in time, whatever the other side does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from integrations import probing
from integrations.probing import hurried

DROPS = 80  # 4 s
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


class Server:
    """Answers every call in drips, and not to the end."""

    def __init__(self) -> None:
        self.calls, self._ended = 0, threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            peer, _address = self._socket.accept()
            with peer:
                self.calls += 1
                self._drip(peer)

    def _drip(self, peer: socket.socket) -> None:
        try:
            peer.sendall(HEAD)
            for _drop in range(DROPS):
                if self._ended.wait(0.05):
                    return
                peer.sendall(b"x")
        except OSError:
            return

    def stop(self) -> None:
        self._ended.set()
        socket.create_connection(self._socket.getsockname()).close()
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def test_answer_that_drips_ends_with_the_time(server: Server) -> None:
    begun = time.monotonic()

    with httpx.Client(trust_env=False) as http, hurried(http, 0.4) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(server.url, timeout=httpx.Timeout(10.0))
        with pytest.raises(httpx.ConnectTimeout):  # and nothing more is tried
            client.get(server.url)

    assert time.monotonic() - begun < 3.0
    assert server.calls == 1


def test_answer_that_is_too_long_is_not_read_to_its_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_BYTES", 3)

    with (
        httpx.Client(trust_env=False) as http,
        hurried(http, 30.0) as client,
        pytest.raises(httpx.ReadTimeout, match="too long"),
    ):
        client.get(server.url)

    assert server.calls == 1


def test_client_that_was_lent_stays_open(server: Server) -> None:
    with httpx.Client(trust_env=False) as http:
        with hurried(http):
            pass

        assert http.is_closed is False
