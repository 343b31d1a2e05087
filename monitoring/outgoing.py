"""The guarded HTTP client lives above: who has it lends it at the start (clawdbot_site/security/apps.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Post = Callable[[str, dict[str, Any]], None]


class Answered(Protocol):
    @property
    def status_code(self) -> int: ...


class Client(Protocol):
    def post(self, url: str, *, content: bytes, headers: dict[str, str]) -> Answered:
        """Safe in all threads. Raises what the client raises."""
        ...

    def close(self) -> None: ...


_post: Post | None = None
_client: Callable[..., Client] | None = None


def register(post: Post, client: Callable[..., Client]) -> None:
    global _post, _client
    _post, _client = post, client


def post(url: str, body: dict[str, Any]) -> None:
    """Raises OSError, or what the client raises for whatever is no 2xx."""
    if _post is None:
        raise OSError("no HTTP client was lent")
    _post(url, body)


def client(*, ca_file: str, timeout: float) -> Client:
    """For who makes many calls. ``ca_file`` holds one more authority to believe. Raises OSError."""
    if _client is None:
        raise OSError("no HTTP client was lent")
    return _client(ca_file=ca_file, timeout=timeout)
