"""Once an hour: what is kept for a while only goes, and groups that wrote come into the admin's list."""

from __future__ import annotations

from bots import chats, files, recalls, retention
from clawdbot_site.security import suspects


def tidy() -> None:
    files.forget_images()
    recalls.forget_old()
    suspects.forget_old()
    chats.find_new()
    retention.purge()
