"""Celery's worker outlives a Redis that goes away. The whole story is tests/chaos."""

from __future__ import annotations

import logging

import pytest
from django.conf import settings
from django.utils.module_loading import import_string
from kombu import Connection

from clawdbot_site.celery import app


def test_an_acknowledgement_after_the_end_is_a_connections_error(redis_url: str) -> None:
    """Celery takes these; anything else ends the worker."""
    with app.connection_for_read(url=redis_url) as connection:
        channel = connection.default_channel
        errors = connection.connection_errors
        channel.close()
        channel.connection = None

        with pytest.raises(errors):
            channel._create_client()


def test_every_scheduled_task_is_there() -> None:
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert callable(import_string(entry["task"]))


def test_nothing_is_put_back_through_a_dead_connection(redis_url: str) -> None:
    with Connection(redis_url) as connection:
        assert connection.default_channel.do_restore is False


def test_workers_log_as_log_level_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.log, "already_setup", False)  # else Celery does nothing a second time
    before = logging.getLogger().level
    app.log.setup(loglevel="CRITICAL", redirect_stdouts=False)
    assert logging.getLogger().level == before
