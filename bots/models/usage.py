"""ModelUsage: what each bot and model used and cost on each day."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from monitoring.ids import uuid7


class ModelUsage(models.Model):
    """One day of one bot and one model, counted from the messages (bots/costs.py). Names and not references: what was
    spent stays when a bot, a model or its messages are gone."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    day = models.DateField(_("day"))  # of the site's time zone
    bot = models.CharField(_("bot"), max_length=50)  # slug
    model = models.CharField(_("model"), max_length=50)  # name
    answers = models.PositiveIntegerField(_("answers"), default=0)
    fallbacks = models.PositiveIntegerField(_("as fallback"), default=0)
    prompt_tokens = models.PositiveBigIntegerField(_("prompt tokens"), default=0)
    completion_tokens = models.PositiveBigIntegerField(_("answer tokens"), default=0)
    prompt_price = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    completion_price = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    cost = models.DecimalField(_("cost"), max_digits=16, decimal_places=6, default=0)
    currency = models.CharField(_("currency"), max_length=3, default="CNY")
    updated_at = models.DateTimeField(_("counted at"), default=timezone.now)

    class Meta:
        verbose_name, verbose_name_plural = _("usage and cost"), _("usage and costs")
        ordering = ["-day", "bot", "model"]
        constraints = [models.UniqueConstraint(fields=["day", "bot", "model"], name="one_usage_per_day_bot_and_model")]

    def __str__(self) -> str:
        return f"{self.day} · {self.bot} · {self.model}"
