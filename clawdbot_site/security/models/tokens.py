"""Keys that sign access tokens, and the refresh tokens that get new ones.

How they are used is in ``signing_keys.py`` and ``refresh_tokens.py``.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.fields import EncryptedTextField
from clawdbot_site.security.models.clients import ApiClient


class SigningKey(models.Model):
    """One ES256 key. It is published while next, signs while current, and is still believed while previous."""

    class State(models.TextChoices):
        NEXT = "next", _("next")
        CURRENT = "current", _("current")
        PREVIOUS = "previous", _("previous")
        RETIRED = "retired", _("retired")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kid = models.CharField(_("key id"), max_length=64, unique=True, editable=False)
    private_pem = EncryptedTextField(_("private key"), blank=True, default="", editable=False)
    public_jwk = models.JSONField(_("public key"), editable=False)
    state = models.CharField(_("state"), max_length=8, choices=State, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    signs_since = models.DateTimeField(_("signs since"), null=True, editable=False)
    not_after = models.DateTimeField(
        _("believed until"), null=True, editable=False, help_text=_("Set when the key stops signing.")
    )

    class Meta:
        verbose_name = _("signing key")
        verbose_name_plural = _("signing keys")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["state"], condition=Q(state="current"), name="security_signingkey_current"),
            models.UniqueConstraint(fields=["state"], condition=Q(state="next"), name="security_signingkey_next"),
        ]

    def __str__(self) -> str:
        return f"{self.kid} ({self.state})"


class RefreshToken(models.Model):
    """One refresh token, as a hash. Each is used once and then replaced by another of the same family."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    family = models.UUIDField(_("family"), default=uuid.uuid4, db_index=True, editable=False)
    hash = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, editable=False, related_name="refresh_tokens"
    )
    client = models.ForeignKey(ApiClient, models.CASCADE, null=True, editable=False, related_name="refresh_tokens")
    # A digest of what the sign-in was based on: a changed password ends the family.
    sign_in_hash = models.CharField(max_length=64, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"), db_index=True, editable=False)
    used_at = models.DateTimeField(_("used at"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, editable=False)

    class Meta:
        verbose_name = _("refresh token")
        verbose_name_plural = _("refresh tokens")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None, client__isnull=False) | Q(user__isnull=False, client=None),
                name="security_refreshtoken_one_owner",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.family}"
