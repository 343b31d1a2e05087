"""The buttons of an answer's card, and what a pressed one means.

A button's value names the answer and is sealed with a keyed hash: only a card that we made can hold it. Whose click it
is, and whether it counts, is decided elsewhere (bots/clicks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast
from uuid import UUID

from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from clawdbot_site.security.key_ring import lookup_hash
from integrations.values import Button, Buttons

Name = Literal["stop", "up", "down"]
NAMES: Final = ("stop", "up", "down")
UUID_CHARS, SEAL_CHARS = 32, 32
HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Press:
    """Which button, of which answer."""

    button: Name
    reply_id: UUID


def of(reply_id: UUID) -> Buttons:
    return Buttons(
        stop=Button(_("Stop"), _value("stop", reply_id)),
        up=Button(_("Helpful"), _value("up", reply_id)),
        down=Button(_("Not helpful"), _value("down", reply_id)),
    )


def read(value: str) -> Press | None:
    """None for what is not ours, or not whole."""
    name, _dot, rest = value.partition(".")
    hexes, _dot, _seal = rest.partition(".")
    if name not in NAMES or len(hexes) != UUID_CHARS or not set(hexes) <= HEX:
        return None
    press = Press(cast(Name, name), UUID(hexes))
    return press if constant_time_compare(value, _value(press.button, press.reply_id)) else None


def _value(button: Name, reply_id: UUID) -> str:
    named = f"{button}.{reply_id.hex}"
    return f"{named}.{lookup_hash(f'button:{named}')[:SEAL_CHARS]}"
