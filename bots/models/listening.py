"""LongConnection: which process holds an endpoint's connection to its platform, and how the connection is."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bots.models.bot import Endpoint


class LongConnectionQuerySet(models.QuerySet["LongConnection"]):
    def free(self) -> LongConnectionQuerySet:
        """Held by nobody, by the database's clock: hosts disagree."""
        return self.filter(Q(held_until__isnull=True) | Q(held_until__lt=Now()))


class LongConnection(models.Model):
    """A lease (``holder``, ``fence``, ``held_until``), and what its holder last reported."""

    class State(models.TextChoices):
        IDLE = "idle", _("nobody holds it")
        CONNECTING = "connecting", _("connecting")
        CONNECTED = "connected", _("connected")
        WAITING = "waiting", _("interrupted, tried again soon")
        REFUSED = "refused", _("refused by the platform")

    endpoint = models.OneToOneField(Endpoint, models.CASCADE, primary_key=True, related_name="long_connection")
    holder = models.CharField(max_length=64, blank=True, default="")
    fence = models.PositiveBigIntegerField(default=0)
    held_until = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.IDLE)
    detail = models.CharField(max_length=500, blank=True, default="")
    connected_at = models.DateTimeField(null=True, blank=True)
    last_event_at = models.DateTimeField(null=True, blank=True, help_text="When the platform last sent anything.")
    reconnects = models.PositiveIntegerField(default=0)

    objects = LongConnectionQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("long connection"), _("long connections")
        default_permissions = ()  # seen on the endpoint only

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.get_state_display()}"

    @property
    def current_state(self) -> LongConnection.State:
        """A holder that died reports nothing more: what it said last does not count."""
        is_held = self.held_until is not None and self.held_until > timezone.now()
        return self.State(self.state) if is_held else self.State.IDLE
