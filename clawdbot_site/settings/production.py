"""For servers: refuses to start embedded. The rest of a deployment is in the environment (docs/operations.md)."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from clawdbot_site.settings.base import *  # noqa: F403  (settings modules build on each other so)
from clawdbot_site.settings.base import EMBEDDED

if EMBEDDED:
    raise ImproperlyConfigured("REDIS_URL is not set: the production settings need PostgreSQL and Redis.")
