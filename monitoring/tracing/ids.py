"""The trace of a message, made from the message's id: nothing is stored, and every process finds the same one.

A digest, as ids of version 7 begin with the time and have fixed bits where samplers look for chance.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from uuid import UUID

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def of_message(message_id: UUID) -> tuple[int, int]:
    """Ids of the trace and of its first span."""
    digest = hashlib.blake2b(message_id.bytes, digest_size=24).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big")


def trace_id(message_id: UUID, traceparent: str = "") -> str:
    """Under which a message's trace is found. ``traceparent``: as it was stored, of a message that joined another."""
    joined = _TRACEPARENT.fullmatch(traceparent)
    return joined[1] if joined else f"{of_message(message_id)[0]:032x}"
