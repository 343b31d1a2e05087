"""For work on ClawdBot itself: tracebacks in the browser, static files straight from the checkout."""

from __future__ import annotations

from clawdbot_site.settings.base import *  # noqa: F403  (settings modules build on each other so)

DEBUG = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
