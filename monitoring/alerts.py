"""Raises and closes alerts. The rules that decide live with what they look at."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from monitoring.models import Alert


def open_alert(
    rule: str, summary: str, *, subject: str = "", severity: str = "warning", details: dict[str, Any] | None = None
) -> Alert | None:
    """Open an alert for a rule and subject; None when one is open already. Safe to call again and again."""
    try:
        with transaction.atomic():
            return Alert.objects.create(
                rule=rule, subject=subject, severity=severity, summary=summary[:500], details=details or {}
            )
    except IntegrityError:  # alert_open_once
        return None


def close_alert(rule: str, *, subject: str = "") -> bool:
    """Close the open alert of a rule and subject. False when none was open."""
    return bool(Alert.objects.open().filter(rule=rule, subject=subject).update(closed_at=timezone.now()))
