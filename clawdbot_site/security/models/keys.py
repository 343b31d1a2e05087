"""The data keys that encrypt secrets, stored wrapped. How they are made and used is in ``key_ring.py``."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class DataKey(models.Model):
    """One data key. Never deleted: even a retired key still opens what an old backup or a late writer brings."""

    class Purpose(models.TextChoices):
        ENCRYPT = "encrypt", _("encrypt")
        DIGEST = "digest", _("digest")

    class State(models.TextChoices):
        PRIMARY = "primary", _("primary")  # seals and opens
        ACTIVE = "active", _("active")  # opens; rows may still be under it
        RETIRED = "retired", _("retired")  # opens; no row was under it when it was retired

    key_id = models.PositiveBigIntegerField(_("key id"), unique=True, editable=False)
    purpose = models.CharField(_("purpose"), max_length=7, choices=Purpose, editable=False)
    state = models.CharField(_("state"), max_length=7, choices=State, default=State.PRIMARY, editable=False)
    wrapped = models.BinaryField(_("wrapped key"), editable=False)
    kek_id = models.CharField(_("wrapped by"), max_length=100, editable=False)
    uses = models.BigIntegerField(_("uses"), default=0, editable=False, help_text=_("Never more than this, in blocks."))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    retired_at = models.DateTimeField(_("retired at"), null=True, editable=False)

    class Meta:
        verbose_name = _("data key")
        verbose_name_plural = _("data keys")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["purpose"], condition=Q(state="primary"), name="security_datakey_one_primary"
            ),
            models.CheckConstraint(condition=Q(purpose__in=["encrypt", "digest"]), name="security_datakey_purpose"),
            # Stored digests would be worthless under another digest key, so that one stays what it is.
            models.CheckConstraint(
                condition=Q(purpose="encrypt") | Q(state="primary"), name="security_datakey_digest_stays"
            ),
            models.CheckConstraint(
                condition=Q(state="retired", retired_at__isnull=False)
                | Q(state__in=["primary", "active"], retired_at=None),
                name="security_datakey_state",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key_id:08x}"
