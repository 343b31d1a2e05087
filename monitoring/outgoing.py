"""The guarded HTTP client lives above: who has it lends it at the start (clawdbot_site/security/apps.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Post = Callable[[str, dict[str, Any]], None]
_post: Post | None = None


def register(post: Post) -> None:
    global _post
    _post = post


def post(url: str, body: dict[str, Any]) -> None:
    """Raises OSError, or what the client raises for whatever is no 2xx."""
    if _post is None:
        raise OSError("no HTTP client was lent")
    _post(url, body)
