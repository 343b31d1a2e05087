"""Which networks may come in, and which may not. The decision itself is in ``ip_rules.py``."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.ip_rules import Rule, normalise


def validate_network(text: str) -> None:
    try:
        normalise(text)
    except ValueError:
        raise ValidationError(_("%(text)s is no network. Write it like 10.0.0.0/8."), params={"text": text}) from None


def new_revision() -> int:
    """Random, so that count and sum over all rules tell whether any of them changed, whatever the clocks say."""
    return secrets.randbits(40)


class IPRuleQuerySet(models.QuerySet["IPRule"]):
    def in_force(self) -> IPRuleQuerySet:
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))

    def compiled_form(self) -> list[Rule]:
        """The rules as ``ip_rules.compile`` takes them, without building a model instance for each."""
        fields = ("id", "action", "network", "scope", "endpoint_id", "expires_at", "is_dry_run")
        return [Rule(str(pk), *rest) for pk, *rest in self.in_force().order_by().values_list(*fields).iterator()]

    def automatic(self) -> IPRuleQuerySet:
        return self.filter(is_automatic=True)


class IPRule(models.Model):
    class Action(models.TextChoices):
        ALLOW = "allow", _("allow")
        BLOCK = "block", _("block")

    class Scope(models.TextChoices):
        SITE = "site", _("whole site")
        ADMIN = "admin", _("admin pages")
        API = "api", _("API and chat")
        WEBHOOKS = "webhooks", _("platform callbacks")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    action = models.CharField(_("action"), max_length=5, choices=Action)
    network = models.CharField(
        _("network"), max_length=43, validators=[validate_network], help_text=_("An address or a network: 10.0.0.0/8.")
    )
    scope = models.CharField(_("applies to"), max_length=8, choices=Scope, default=Scope.SITE)
    # Endpoints belong to an app above this one, so this is their key and not a foreign key.
    endpoint_id = models.UUIDField(
        _("endpoint"), null=True, blank=True, db_index=True, help_text=_("Only for callbacks of this endpoint.")
    )
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    is_dry_run = models.BooleanField(
        _("on trial"),
        default=False,
        db_default=False,
        help_text=_("Only counts and notes in the audit log whom it would refuse."),
    )
    is_automatic = models.BooleanField(_("automatic"), default=False, db_default=False, editable=False)
    note = models.CharField(_("note"), max_length=200, blank=True)
    hits = models.BigIntegerField(_("hits"), default=0, editable=False)
    last_hit_at = models.DateTimeField(_("last hit"), null=True, editable=False)
    revision = models.BigIntegerField(default=new_revision, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        verbose_name=_("created by"),
        null=True,
        editable=False,
        related_name="+",
    )

    objects = IPRuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("network rule")
        verbose_name_plural = _("network rules")
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="security_iprule_newest"),
            models.Index(fields=["expires_at"], name="security_iprule_expires"),
            models.Index(
                fields=["network", "-created_at"], condition=Q(is_automatic=True), name="security_iprule_automatic"
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(action__in=["allow", "block"]), name="security_iprule_action"),
            models.CheckConstraint(
                condition=Q(scope__in=["site", "admin", "api", "webhooks"]), name="security_iprule_scope"
            ),
            models.CheckConstraint(
                condition=Q(endpoint_id=None) | Q(scope="webhooks"),
                name="security_iprule_endpoint",
                violation_error_message=_("Only a rule for platform callbacks can name an endpoint."),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.network} ({self.scope})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store the network in its one normal form, and note that the rules changed."""
        self.network, self.revision = normalise(self.network), new_revision()
        if (fields := kwargs.get("update_fields")) is not None:
            kwargs["update_fields"] = {*fields, "network", "revision", "updated_at"}
        super().save(*args, **kwargs)

    def as_rule(self) -> Rule:
        network = normalise(self.network)
        return Rule(str(self.pk), self.action, network, self.scope, self.endpoint_id, self.expires_at, self.is_dry_run)
