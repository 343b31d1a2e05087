"""Text on its way into the database."""

from __future__ import annotations

from inference.text import well_formed


def storable(text: str) -> str:
    """Without what PostgreSQL refuses, for a whole batch: NUL and lone surrogates."""
    return well_formed(text.replace("\0", ""))
