"""What people do about alerts: acknowledge one, so that nobody is reminded of it."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from monitoring import audit
from monitoring.models import Alert


def acknowledge(alert: Alert, by: str) -> bool:
    """Somebody looks after it; False when it is closed or somebody does already. Audited."""
    with transaction.atomic():
        row = Alert.objects.select_for_update().get(pk=alert.pk)
        if row.closed_at or row.acknowledged_at:
            return False
        row.acknowledged_at, row.acknowledged_by = timezone.now(), by[:200]
        row.save(update_fields=["acknowledged_at", "acknowledged_by"])
        audit.record("alert.acknowledged", target=row, changes={"rule": row.rule, "subject": row.subject})
    return True
