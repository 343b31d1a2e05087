"""Celery's entry points of the audit log. Run twice or never, the next run goes on where the log stands."""

from __future__ import annotations

from celery import shared_task
from django.db import close_old_connections

from monitoring import audit_forwarding, retention, sealer, sinks


@shared_task(queue="default")
def seal() -> None:
    """Seal what waits, and sign a checkpoint if one is due."""
    close_old_connections()
    sealer.run()


@shared_task(queue="default")
def copy_checkpoints() -> None:
    """Give the sinks what they lack. Apart from sealing: a slow sink must not hold it up."""
    close_old_connections()
    sinks.copy_all()


@shared_task(queue="default")
def forward_audit() -> None:
    """Give the central receivers the entries that they lack."""
    close_old_connections()
    audit_forwarding.forward_all()


@shared_task(queue="default")
def purge() -> None:
    """Let go of what is older than the retention says."""
    close_old_connections()
    retention.purge_if_due()
