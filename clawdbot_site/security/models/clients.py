"""Programs that call us with an API key. The key itself is shown once and kept only as a hash."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework_api_key.models import AbstractAPIKey, BaseAPIKeyManager

from clawdbot_site.security.ip_rules import Rule, compile, normalise

LAST_USED_STEP: Final = timedelta(minutes=5)


class Scope(models.TextChoices):
    """What a token or key may do through the API. The roles of people are turned into these in ``roles.py``."""

    BOTS_READ = "bots:read", _("read bots, models and endpoints")
    BOTS_WRITE = "bots:write", _("change bots, models and endpoints")
    MESSAGES_READ = "messages:read", _("read conversations")
    MESSAGES_WRITE = "messages:write", _("push and retry messages")
    CHAT = "chat", _("talk to bots")
    AUDIT_READ = "audit:read", _("read the audit log")
    ADMIN = "admin", _("manage API clients and network rules")


ALL_SCOPES: Final = frozenset(Scope.values)


def validate_scopes(value: Any) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValidationError(_("Give a list of scopes: %(known)s."), params={"known": ", ".join(sorted(ALL_SCOPES))})
    if unknown := sorted(set(value) - ALL_SCOPES):
        raise ValidationError(
            _("Unknown scopes: %(unknown)s. Known are: %(known)s."),
            params={"unknown": ", ".join(unknown), "known": ", ".join(sorted(ALL_SCOPES))},
        )


def validate_networks(value: Any) -> None:
    if not isinstance(value, list):
        raise ValidationError(_('Give a list of networks, like ["10.0.0.0/8"]; an empty one means from anywhere.'))
    for one in value:
        try:
            normalise(one if isinstance(one, str) else "")
        except ValueError:
            raise ValidationError(_("%(one)s is no network. Write it like 10.0.0.0/8."), params={"one": one}) from None


class ApiClientManager(BaseAPIKeyManager):
    def assign_key(self, obj: ApiClient) -> str:  # type: ignore[override]  # narrower on purpose: our own clients
        """Give ``obj`` a new key and return it. Unlike the library's, the id tells nothing about the key."""
        key, obj.prefix, obj.hashed_key = self.key_generator.generate()
        return key

    def from_key(self, key: str) -> ApiClient | None:
        """The client of a key, if it may be used now. One query and one hash, whatever was sent."""
        prefix = key.partition(".")[0]
        found: Any = self.filter(prefix=prefix).first() if len(prefix) == 8 and prefix.isalnum() else None
        usable = found is not None and found.is_valid(key) and found.is_usable
        return found if usable else None


class ApiClient(AbstractAPIKey):
    """``revoked`` is for good; ``is_active`` can be switched off and on again. Either works from the next request."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)  # type: ignore[assignment]  # the base has text
    scopes = models.JSONField(_("scopes"), default=list, validators=[validate_scopes])
    networks = models.JSONField(
        _("networks"),
        default=list,
        blank=True,
        validators=[validate_networks],
        help_text=_('Where calls may come from, like ["10.0.0.0/8"]; empty: from anywhere.'),
    )
    team = models.ForeignKey(
        "security.Team",
        models.PROTECT,
        verbose_name=_("team"),
        null=True,
        blank=True,
        help_text=_("It sees what this team owns, and what no team owns. Empty: everything."),
    )
    is_active = models.BooleanField(_("active"), default=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("created by"),
        null=True,
        editable=False,
        related_name="+",
    )

    objects: ClassVar[ApiClientManager] = ApiClientManager()  # type: ignore[assignment]  # narrower than the base's

    class Meta:
        verbose_name = _("API client")
        verbose_name_plural = _("API clients")
        ordering = ["-created", "-id"]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.networks = [normalise(one) for one in self.networks]
        self.scopes = sorted(set(self.scopes))
        super().save(*args, **kwargs)

    @property
    def is_usable(self) -> bool:
        return self.is_active and not self.revoked and not self.has_expired

    def accepts(self, address: str) -> bool:
        """Whether a call with this key may come from ``address``."""
        rules = compile(Rule("", "allow", network, "api") for network in self.networks)
        return rules.decide(address, "api").allowed

    def note_use(self) -> None:
        """Remember that the key was used, to about five minutes: not a write for each call."""
        now = timezone.now()
        if self.last_used_at is None or self.last_used_at < now - LAST_USED_STEP:
            stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_STEP)
            type(self).objects.filter(stale, pk=self.pk).update(last_used_at=now)
