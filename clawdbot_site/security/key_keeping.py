"""What the scheduler does for keys once an hour: replaces those that are old, moves secrets to the newest.

Each step by itself: a Vault that is down holds up what needs it, and nothing else. Run twice or never, the next run
goes on where the keys stand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from django.db import DatabaseError

from clawdbot_site.security import key_clock, key_providers, key_ring, reencryption, signing_keys
from clawdbot_site.security.key_ring import KeysUnavailable
from monitoring import handover
from monitoring.alerts import close_alert, open_alert

logger = logging.getLogger(__name__)
BUDGET_S: Final = 300.0  # of moving secrets; the next hour goes on
RULE: Final = "keys.unavailable"


def look_after_keys() -> None:
    troubles = [trouble for step in _steps() if (trouble := _trouble(step))]
    if troubles:
        open_alert(RULE, f"Keys could not be looked after: {troubles[0]}", severity="critical")
    else:
        close_alert(RULE)


def _steps() -> list[Callable[[], object]]:
    return [
        lambda: key_providers.wrapping().stay_signed_in(),
        key_ring.rewrap,
        key_ring.rotate_if_due,
        _move_secrets,
        lambda: signing_keys.rotate_if_due(key_clock.ROTATE_AFTER),
        signing_keys.retire_previous,
        lambda: handover.rotate_if_due(key_clock.ROTATE_AFTER),
    ]


def _trouble(step: Callable[[], object]) -> str:
    try:
        step()
    except (KeysUnavailable, DatabaseError) as error:
        logger.error("a key could not be looked after", extra={"reason": str(error)})
        return str(error).strip().partition("\n")[0]
    return ""


def _move_secrets() -> None:
    if not reencryption.is_needed():
        return
    outcome = reencryption.reencrypt(reencryption.secret_columns(), budget_s=BUDGET_S)
    if outcome.unreadable:
        logger.error("secrets cannot be decrypted", extra={"count": len(outcome.unreadable)})
