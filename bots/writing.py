"""A message's next state, written only while its state still allows it: a late holder changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bots import statements
from bots.errors import LeaseLost
from bots.models import Message


def write(message: Message, changed: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Write ``changed`` where the status is one of ``allowed``, to the row and to the object. Raises LeaseLost."""
    if not statements.update(Message, changed, {"id": message.pk, "status": tuple(allowed)}):
        raise LeaseLost(f"message {message.pk} was settled by another worker")
    for name, value in changed.items():
        setattr(message, name, value)
