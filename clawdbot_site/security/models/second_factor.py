"""What somebody proves a sign-in with besides the password. How it is used is in ``second_factor.py``."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.fields import EncryptedTextField
from clawdbot_site.security.models.user import User


class SecondFactor(models.Model):
    """One account's authenticator app. Its key is the account's, so the sealed secret is bound to that account."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.OneToOneField(User, models.CASCADE, related_name="second_factor", editable=False)
    secret = EncryptedTextField(blank=True, default="", editable=False)
    pending_secret = EncryptedTextField(blank=True, default="", editable=False)  # shown, not yet proved
    confirmed_at = models.DateTimeField(_("set up"), null=True, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    last_step = models.BigIntegerField(default=0, editable=False)  # a code of this step or before is not taken again

    class Meta:
        verbose_name = _("second factor")
        verbose_name_plural = _("second factors")
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(id=F("user_id")), name="security_secondfactor_own_key")]

    def __str__(self) -> str:
        return str(self.user)


class RecoveryCode(models.Model):
    """One code for the day on which the phone is lost, as a keyed digest. Good once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="recovery_codes", editable=False)
    digest = models.CharField(max_length=64, editable=False)
    used_at = models.DateTimeField(_("used at"), null=True, editable=False)

    class Meta:
        verbose_name = _("recovery code")
        verbose_name_plural = _("recovery codes")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "digest"], name="security_recoverycode_once")]

    def __str__(self) -> str:
        return str(self.user)
