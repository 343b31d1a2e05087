"""The composition root: wires everything, imported by nobody (its ``security`` excepted)."""

# Shared tasks bind to this app wherever Django starts; without it they would use a default broker.
from clawdbot_site.celery import app as celery_app

__all__ = ["celery_app"]
