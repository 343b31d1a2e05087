"""A new wrapping key, and a place that a secret is bound to."""

from __future__ import annotations

import base64
import os
import uuid

from clawdbot_site.security import encryption

AAD = encryption.associated_data("bots", "endpoint", "key", uuid.UUID(int=7))


def new_kek() -> str:
    return base64.b64encode(os.urandom(32)).decode()
