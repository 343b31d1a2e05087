"""DeliveryStep: every call that can make something visible, written down before it is made."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from bots.models.conversation import Message


class DeliveryStep(models.Model):
    """The intent to make one call for one reply, and what came of it. ``key`` is what the platform dedupes by."""

    class State(models.TextChoices):
        INTENDED = "intended", _("under way, or outcome unknown")
        DONE = "done", _("confirmed")
        REFUSED = "refused", _("refused")

    message = models.ForeignKey(
        Message,
        models.CASCADE,
        related_name="steps",
        db_index=False,  # one_step_per_name serves
    )
    name = models.CharField(max_length=40)
    key = models.CharField(max_length=50)
    state = models.CharField(max_length=10, choices=State.choices, default=State.INTENDED)
    remote_id = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    fence = models.PositiveIntegerField()
    first_tried_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name, verbose_name_plural = _("delivery step"), _("delivery steps")
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["message", "name"], name="one_step_per_name")]
        indexes = [  # by which a reaction, a pressed button or a quotation finds the answer it means
            models.Index(fields=["remote_id"], condition=~models.Q(remote_id=""), name="step_of_remote")
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.get_state_display()}"
