"""The settings of every process. Values come from the environment (env.py); the test settings change a handful."""

from clawdbot_site.settings.base import *  # noqa: F403  (Django reads a settings module's names)
