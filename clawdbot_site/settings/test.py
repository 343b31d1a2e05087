"""Settings of the project's own tests: fast password hashes, in-process everything unless a server is given."""

from __future__ import annotations

import os

os.environ.setdefault("CLAWDBOT_DATA_DIR", ".pytest_cache/clawdbot-var")

from clawdbot_site.settings.base import *  # noqa: F403  (the line above must come first)

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405  (WhiteNoise warns about a missing one)
WATCH_ITSELF = False
SCAN_RESULT = "/nowhere"  # no test knows of this machine
AUTO_BLOCK_FAILURES = 0  # all tests come from a few addresses; those of the blocks set their own number
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
