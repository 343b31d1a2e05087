"""The site's settings with what `startproject` gives: Django's own middleware, and one view."""

from __future__ import annotations

from clawdbot_site.settings.base import *  # noqa: F403  (settings modules build on each other so)
from clawdbot_site.settings.base import DATABASES

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "bench.baselines.plain"

# Django's documents on ASGI: no persistent connections. Each request has a thread of its own, which would keep one.
DATABASES["default"] |= {"CONN_MAX_AGE": 0}
