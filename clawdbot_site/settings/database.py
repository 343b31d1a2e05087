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
    """``default``; and with DATABASE_OWNER_URL ``owner``, the same database as another role: it migrates and purges."""
    default = _database(
        "DATABASE_URL", env("DATABASE_URL") or f"sqlite:///{(data_dir / 'clawdbot.sqlite3').as_posix()}"
    )
    if not env("DATABASE_OWNER_URL"):
        return {"default": default}
    owner = _database("DATABASE_OWNER_URL", env("DATABASE_OWNER_URL"))
    if any(not one["ENGINE"].endswith("postgresql") for one in (default, owner)):
        raise ImproperlyConfigured("DATABASE_OWNER_URL needs PostgreSQL in DATABASE_URL as well; SQLite has no roles.")
    return {"default": default, "owner": {**owner, "CONN_MAX_AGE": 0, "TEST": {"MIRROR": "default"}}}


def _database(name: str, url: str) -> dict[str, Any]:
    try:
        config = environ.Env.db_url_config(url)
        engine = ENGINES[config["ENGINE"]]
    except (KeyError, ValueError, ImproperlyConfigured):
        raise ImproperlyConfigured(
            f"{name} must start with postgres:// or sqlite:///, like postgres://user:password@host:5432/name."
        ) from None
    options = SQLITE_OPTIONS if engine.endswith("sqlite3") else POSTGRES_OPTIONS
    return {
        **config,
        "ENGINE": engine,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**config.get("OPTIONS", {}), **options},
    }
