"""People and service accounts. What each may do is in ``roles.py``."""

from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """An account. The key is random: it stands in tokens and addresses, where a count would tell how many there are."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sign_outs = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="Another number ends every session and refresh token."
    )

    class Meta(AbstractUser.Meta):
        ordering = ["username"]

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What sessions and refresh tokens are bound to: Django's digest of the password, and ``sign_outs``."""
        of_password: str = super()._get_session_auth_hash(secret=secret)  # type: ignore[misc]  # not in the stubs
        if not self.sign_outs:
            return of_password
        return salted_hmac("security.sign_outs", f"{of_password}:{self.sign_outs}", algorithm="sha256").hexdigest()


class Team(models.Model):
    """People who own bots together."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=80, unique=True)
    members = models.ManyToManyField(User, verbose_name=_("members"), related_name="teams", blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    team_paths = ("pk",)

    class Meta:
        verbose_name = _("team")
        verbose_name_plural = _("teams")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
