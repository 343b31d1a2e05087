"""Keyed digests that only the running product can make: of an entry when it is written, of a seal when it is made.

They show an inserted row, and the exact place of an edit even where somebody wrote the whole chain anew. Outsiders
cannot check them; for those there are the signed checkpoints (monitoring/verifier.py).
"""

from __future__ import annotations

import hmac
from typing import Any, Final

from monitoring import vault, verifier

ENTRY: Final = "audit entry"
SEAL: Final = "audit seal"
CONTENT: Final = "audit content"
CHARACTERS: Final = 32  # 128 bits


def key_for(use: str) -> bytes:
    return vault.vault().derived_key(use)


def mark(key: bytes, data: bytes) -> str:
    return hmac.digest(key, data, "sha256").hex()[:CHARACTERS]


def of_entry(entry: Any) -> str:
    """The mark of an entry that is about to be written."""
    return mark(key_for(ENTRY), verifier.canonical(values_of(entry)))


def of_content(text: str) -> str:
    """A digest of what was said: shows a later edit, and gives nothing away to who guesses short texts."""
    return mark(key_for(CONTENT), text.encode(errors="surrogatepass"))


def values_of(entry: Any) -> list[Any]:
    """An entry's values in the order of ``verifier.COLUMNS``, as the canonical form has them."""
    return [
        str(entry.id),
        verifier.moment(entry.created_at),
        *(getattr(entry, name) for name in verifier.COLUMNS[2:]),
    ]
