"""The database settings: PostgreSQL by ``DATABASE_URL``, else SQLite tuned so that a commit is on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from clawdbot_site.settings.env import env

# Engines that count queries for /metrics.
ENGINES = {
    "django.db.backends.postgresql": "django_prometheus.db.backends.postgresql",
    "django.db.backends.sqlite3": "django_prometheus.db.backends.sqlite3",
}
# A host that vanished is noticed in seconds, not after the kernel's quarter of an hour.
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",  # deferred ones fail at once with "database is locked"
    "timeout": 20,
    # FULL: NORMAL would lose commits that we already told the platform about.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON;",
}


def databases(data_dir: Path) -> dict[str, dict[str, Any]]:
    url = env("DATABASE_URL") or f"sqlite:///{(data_dir / 'clawdbot.sqlite3').as_posix()}"
    try:
        config = environ.Env.db_url_config(url)
        engine = ENGINES[config["ENGINE"]]
    except (KeyError, ValueError, ImproperlyConfigured):
        raise ImproperlyConfigured(
            "DATABASE_URL must start with postgres:// or sqlite:///, like postgres://user:password@host:5432/name."
        ) from None
    options = SQLITE_OPTIONS if engine.endswith("sqlite3") else POSTGRES_OPTIONS
    return {
        "default": {
            **config,
            "ENGINE": engine,
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {**config.get("OPTIONS", {}), **options},
        }
    }
