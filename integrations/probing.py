"""What the calls of a check need: an end in time, and an access token that proves the secret of this moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import httpx

TOTAL_S: Final = 15.0
PATIENCE_S: Final = 2.0  # how long a call of a check waits for its turn
MOST_BYTES: Final = 1_000_000


class OwnTokens:
    """A token store for one check: a shared token would hide that the secret is wrong by now."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        return self._values.get(key)

    def set(self, key: str, value: str, ttl_s: float) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def lock(self, key: str) -> AbstractContextManager[object]:
        return self._lock


@contextmanager
def hurried(http: httpx.Client, total_s: float = TOTAL_S) -> Iterator[httpx.Client]:
    """``http``, whose calls together end after ``total_s``: later ones raise httpx.ConnectTimeout or ReadTimeout."""
    # nosemgrep: http-past-the-guard  (its transport hands every request to the guarded client)
    with httpx.Client(transport=_Hurried(http, time.monotonic() + total_s), trust_env=False) as client:
        yield client


class _Hurried(httpx.BaseTransport):
    """Sends by another client, which keeps its guard and its pool. Answers are read whole, within the time left."""

    def __init__(self, http: httpx.Client, until_s: float) -> None:
        self._http, self._until_s = http, until_s

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise httpx.ConnectTimeout("no time is left", request=request)
        timeouts = {name: min(value, left_s) for name, value in request.extensions["timeout"].items()}
        request.extensions = {**request.extensions, "timeout": timeouts}
        answer = self._http.send(request, stream=True)
        try:
            content = b"".join(self._pieces(answer, request))
        finally:
            answer.close()
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)

    def _pieces(self, answer: httpx.Response, request: httpx.Request) -> Iterator[bytes]:
        size_bytes = 0
        for piece in answer.iter_raw():
            size_bytes += len(piece)
            if time.monotonic() > self._until_s or size_bytes > MOST_BYTES:
                raise httpx.ReadTimeout("the answer took too long, or was too long", request=request)
            yield piece
