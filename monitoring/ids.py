"""Primary keys: UUIDs of version 7, so that the order of ids is the order of time."""

from __future__ import annotations

import uuid

from uuid_utils import compat


def uuid7() -> uuid.UUID:
    """Return a new id, greater than all ids made before it in this process."""
    new: uuid.UUID = compat.uuid7()
    return new
