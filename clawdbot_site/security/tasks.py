"""Celery's entry point of the keys. Run twice or never, the database says what is to be done."""

from __future__ import annotations

from celery import shared_task
from django.db import close_old_connections

from clawdbot_site.security import key_keeping


@shared_task(queue="default")
def look_after_keys() -> None:
    """Replace what is old, move secrets to the newest data key, open alerts."""
    close_old_connections()
    key_keeping.look_after_keys()
