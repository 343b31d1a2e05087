"""PlatformCredential: the secrets of one app on one chat platform. QuotaUsage: what it used of a month's quota.

GroupRobot: a webhook into one group, by which nothing comes back.
"""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.fields import EncryptedTextField
from clawdbot_site.security.models.dated import DatedSecrets
from integrations.robots import RobotAddress
from integrations.values import Credentials
from monitoring.ids import uuid7

OF_EVENTS = _("Of the event settings. DingTalk: only if events are to come over HTTP.")


class Platform(models.TextChoices):
    FEISHU = "feishu", _("Feishu / Lark")
    DINGTALK = "dingtalk", _("DingTalk")


class PlatformCredential(DatedSecrets):
    """Secrets are encrypted, bound to this row, and never shown again: only fingerprints are.

    While one is being changed (``secret_change.py``), new ones stand beside those in use.
    """

    team_paths = ("team",)
    SECRETS = ("app_secret", "verification_token", "encrypt_key")
    DATED = ("app_secret",)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100)
    team = models.ForeignKey("security.Team", models.PROTECT, null=True, blank=True, verbose_name=_("team"))
    platform = models.CharField(_("platform"), max_length=20, choices=Platform.choices)
    app_id = models.CharField(_("app ID"), max_length=100, help_text=_("Feishu: App ID. DingTalk: AppKey / Client ID."))
    app_secret = EncryptedTextField(_("app secret"))
    verification_token = EncryptedTextField(_("verification token"), blank=True, help_text=OF_EVENTS)
    encrypt_key = EncryptedTextField(_("encrypt key"), blank=True, help_text=OF_EVENTS)
    robot_code = models.CharField(
        _("robot code"), max_length=100, blank=True, help_text=_("DingTalk; empty: the app ID.")
    )
    corp_id = models.CharField(
        _("company ID"), max_length=100, blank=True, help_text=_("Empty: pinned at the first message.")
    )
    allow_unsigned = models.BooleanField(
        _("allow unsigned callbacks"),
        default=False,
        help_text=_("Feishu without an Encrypt Key: anybody who learns the token can forge messages."),
    )
    base_url = models.URLField(
        _("base URL"), max_length=300, blank=True, help_text=_("Empty: the platform's usual address.")
    )
    card_template_id = models.CharField(
        _("card template"), max_length=200, blank=True, help_text=_("DingTalk AI cards.")
    )
    own_id = models.CharField(_("the bot's own ID"), max_length=100, blank=True, editable=False)
    next_app_secret = EncryptedTextField(_("new app secret"), blank=True, default="", db_default="", editable=False)
    next_verification_token = EncryptedTextField(
        _("new verification token"), blank=True, default="", db_default="", editable=False
    )
    next_encrypt_key = EncryptedTextField(_("new encrypt key"), blank=True, default="", db_default="", editable=False)
    next_entered_at = models.DateTimeField(_("new secret entered"), null=True, editable=False)
    next_proved_at = models.DateTimeField(_("new secret proved"), null=True, editable=False)
    next_heard_at = models.DateTimeField(_("first callback by the new secret"), null=True, editable=False)
    next_retires_at = models.DateTimeField(_("old secret retires"), null=True, editable=False)
    next_error = models.CharField(
        _("why the new secret was refused"), max_length=300, blank=True, default="", db_default="", editable=False
    )
    monthly_api_quota = models.PositiveIntegerField(
        _("monthly API calls"),
        default=0,
        db_default=0,
        blank=True,
        help_text=_(
            "How many billed API calls the company's plan allows each month. DingTalk's Standard edition: 5,000, and "
            "every step of a streamed answer is one. From 80 percent on answers grow in fewer steps, from 95 percent "
            "on they come as one message. 0: no limit is watched."
        ),
    )
    monthly_webhook_quota = models.PositiveIntegerField(
        _("monthly webhook and Stream calls"),
        default=0,
        db_default=0,
        blank=True,
        help_text=_("DingTalk's Standard edition: 3,000, questions and answers together. 0: no limit is watched."),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name, verbose_name_plural = _("platform credential"), _("platform credentials")
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["platform", "app_id"], name="one_credential_per_app")]

    def __str__(self) -> str:
        return f"{self.name} ({self.get_platform_display()})"

    def values(self) -> Credentials:
        """The plain values that an adapter works with.

        While a secret is being changed the callbacks of either are believed (``Credentials.other``), and calls are
        made with the old one until the new one was proved.
        """
        current = self._values()
        if self.next_entered_at is None:
            return current
        new = self.next_values(current)
        return replace(new, other=current) if self.next_proved_at else replace(current, other=new)

    def next_values(self, current: Credentials | None = None) -> Credentials:
        """As it will be: with the new secrets, and the present ones where there is no new one."""
        given = {name: new for name in self.SECRETS if (new := getattr(self, f"next_{name}"))}
        return replace(current or self._values(), **given, is_next=True)

    def _values(self) -> Credentials:
        api_url, oapi_url = (self.base_url or url for url in settings.PLATFORM_URLS[self.platform])
        return Credentials(
            id=str(self.pk),
            platform=self.platform,
            app_id=self.app_id,
            api_url=api_url.rstrip("/"),
            oapi_url=oapi_url.rstrip("/"),
            app_secret=self.app_secret,
            verification_token=self.verification_token,
            encrypt_key=self.encrypt_key,
            robot_code=self.robot_code,
            corp_id=self.corp_id,
            card_template_id=self.card_template_id,
            own_id=self.own_id,
            allow_unsigned=self.allow_unsigned,
        )


class QuotaUsage(models.Model):
    """How many billed calls an app made in a month. ``month`` is its first day, in China."""

    class Quota(models.TextChoices):
        API = "api", _("API calls")
        WEBHOOK = "webhook", _("webhook and Stream calls")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    credential = models.ForeignKey(PlatformCredential, models.CASCADE, related_name="usage")
    month = models.DateField(_("month"))
    quota = models.CharField(_("quota"), max_length=10, choices=Quota.choices)
    used = models.PositiveIntegerField(_("used"), default=0)
    used_up_at = models.DateTimeField(_("used up at"), null=True, blank=True)

    class Meta:
        verbose_name, verbose_name_plural = _("quota used"), _("quotas used")
        ordering = ["-month", "quota"]
        constraints = [models.UniqueConstraint(fields=["credential", "month", "quota"], name="one_count_per_month")]

    def __str__(self) -> str:
        return f"{self.credential_id} {self.month:%Y-%m} {self.quota}: {self.used}"


class GroupRobot(models.Model):
    """A custom robot that somebody added to a group in its settings: no app stands behind it, and it hears nothing."""

    team_paths = ("team",)
    SECRETS = ("webhook_url", "signing_secret")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100)
    team = models.ForeignKey("security.Team", models.PROTECT, null=True, blank=True, verbose_name=_("team"))
    platform = models.CharField(_("platform"), max_length=20, choices=Platform.choices)
    webhook_url = EncryptedTextField(_("webhook address"))
    signing_secret = EncryptedTextField(_("signing secret"), blank=True)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    last_sent_at = models.DateTimeField(_("last message"), null=True, editable=False)
    last_error = models.CharField(_("last error"), max_length=500, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name, verbose_name_plural = _("group robot"), _("group robots")
        ordering = ["name"]
        indexes = [models.Index(fields=["-created_at", "-id"], name="group_robot_newest")]

    def __str__(self) -> str:
        return f"{self.name} ({self.get_platform_display()})"

    def address(self) -> RobotAddress:
        """Raises DecryptionError."""
        return RobotAddress(str(self.pk), self.webhook_url, self.signing_secret)
