"""The admin of platform credentials: where each value is found in the console, and what is missing, in words."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import display

from clawdbot_site.security.secret_forms import AddressField, SecretsForm
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from integrations import credential_check, quota, quota_meter, secret_page
from integrations import robot_admin as robot_admin  # the page of group robots
from integrations.checking import Finding
from integrations.models import Platform, PlatformCredential, QuotaUsage
from integrations.registry import adapter_for
from monitoring.admin import AuditedModelAdmin

QUOTA_FIELDS = ("monthly_api_quota", "monthly_webhook_quota")
IDENTITY = ("app_id", "app_secret", "base_url")  # a change of these may make it another bot
FEISHU, DINGTALK = "platform == 'feishu'", "platform == 'dingtalk'"


class PlatformCredentialForm(SecretsForm):
    moved_secrets = ("app_secret",)
    base_url = AddressField(
        label=_("Base URL"),
        max_length=300,
        help_text=_(
            "Empty: the platform's usual address. Lark (outside China): https://open.larksuite.com. "
            "For DingTalk it stands for both of its hosts."
        ),
    )

    class Meta:
        model = PlatformCredential
        fields = [
            "name",
            "platform",
            "team",
            "app_id",
            "app_secret",
            "verification_token",
            "encrypt_key",
            "allow_unsigned",
            "robot_code",
            "card_template_id",
            "corp_id",
            "base_url",
            "rotate_by",
            *QUOTA_FIELDS,
        ]
        help_texts = {
            "name": _("For you: how this app is called in lists."),
            "app_id": _(
                "Feishu: developer console, your app, Credentials & Basic Info (凭证与基础信息), App ID. "
                "DingTalk: developer console, your app, Credentials (凭证与基础信息), Client ID."
            ),
            "app_secret": _("On the same page of the console: App Secret, or Client Secret."),
            "verification_token": _(
                "Feishu: Events & Callbacks (事件与回调), Encryption Strategy (加密策略). "
                "DingTalk: Event Subscription (事件订阅), Token (签名 Token), only if events are to come over HTTP."
            ),
            "encrypt_key": _(
                "On the same page; DingTalk calls it AES key (加密 aes_key). Without one Feishu does not sign what it "
                "sends, so set one there first."
            ),
            "robot_code": _("DingTalk: Robot (机器人) in your app. Empty: the same as the Client ID, which is usual."),
            "card_template_id": _(
                "DingTalk: the template of an AI card with a Markdown variable called content, for answers that "
                "appear while they are written. Empty: one message when the answer is complete."
            ),
            "corp_id": _("Empty: pinned at the first message, so that no other company can use this bot."),
            "rotate_by": _(
                "By then the app secret should be replaced: ClawdBot reminds you. A new one counts 90 days."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding and "platform" in self.fields:
            self.fields["platform"].disabled = True
            self.fields["platform"].help_text = _("An app stays on its platform. Make another credential.")

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        data.update({name: data.get(name) or 0 for name in QUOTA_FIELDS if name not in self.errors})
        if data.get("platform") == Platform.FEISHU:
            self._check_feishu(data)
        if platform := data.get("platform"):
            self._check_secrets(platform, data)
        return data

    def _check_secrets(self, platform: str, data: dict[str, Any]) -> None:
        entered = {name: data.get(name) or "" for name in PlatformCredential.SECRETS}
        held = [name for name in PlatformCredential.SECRETS if self.has_secret(name)]
        for name, text in adapter_for(platform).credential_faults(entered, held).items():
            self.add_error(name, ValidationError(text))

    def _check_feishu(self, data: dict[str, Any]) -> None:
        if not self.has_secret("verification_token"):
            text = _("Feishu apps have one: copy it from Events & Callbacks.")
            self.add_error("verification_token", ValidationError(text))
        if not self.has_secret("encrypt_key") and not data.get("allow_unsigned"):
            text = _(
                "Set an Encrypt Key in Feishu's console: without one callbacks are not signed. "
                "To accept that risk, tick “allow unsigned callbacks”."
            )
            self.add_error("encrypt_key", ValidationError(text))


@admin.register(PlatformCredential)
class PlatformCredentialAdmin(OfTeams, AuditedModelAdmin):
    form = PlatformCredentialForm
    list_display = ["name", "where", "app_id", "is_signed", "team", "used_this_month", "rotate_by", "updated_at"]
    readonly_fields = ["used_this_month"]
    list_filter = ["platform", "allow_unsigned", "rotate_by", ("team", VisibleFilter)]
    search_fields = ["name", "app_id", "corp_id"]
    list_select_related = ["team"]
    change_form_outer_before_template = "integrations/check_panel.html"
    conditional_fields = {
        "allow_unsigned": FEISHU,
        "robot_code": DINGTALK,
        "card_template_id": DINGTALK,
        "monthly_webhook_quota": DINGTALK,
    }
    fieldsets = [
        (None, {"fields": ["name", "platform", "team"]}),
        (
            _("From the platform's console"),
            {
                "description": _("Secrets are encrypted before they are stored, and nobody can read them here again."),
                "fields": [
                    "app_id",
                    "app_secret",
                    "verification_token",
                    "encrypt_key",
                    "allow_unsigned",
                    "robot_code",
                    "card_template_id",
                ],
            },
        ),
        (_("Monthly quota of the company's plan"), {"fields": [*QUOTA_FIELDS, "used_this_month"]}),
        (_("Special cases"), {"fields": ["corp_id", "base_url", "rotate_by"]}),
    ]

    @display(description=_("platform"), label=True, ordering="platform")
    def where(self, credential: PlatformCredential) -> str:
        return credential.get_platform_display()

    @admin.display(description=_("signed"), boolean=True)
    def is_signed(self, credential: PlatformCredential) -> bool:
        return not credential.allow_unsigned

    @admin.display(description=_("used this month"))
    def used_this_month(self, credential: PlatformCredential) -> str:
        if credential._state.adding:
            return "-"
        return format_html_join("", "<div>{}</div>", ((_meter(state),) for state in quota.states(credential)))

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlatformCredential]:
        rows: QuerySet[PlatformCredential] = super().get_queryset(request)
        return rows.prefetch_related(quota.with_usage())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change and set(IDENTITY).intersection(form.changed_data):
            obj.own_id = ""  # learned anew when it is needed
        super().save_model(request, obj, form, change)
        if change and set(QUOTA_FIELDS).intersection(form.changed_data):
            quota_meter.allow_again(obj)

    # -- the connection check --

    def get_urls(self) -> list[URLPattern]:
        check = self.admin_site.admin_view(require_POST(self.check_connection))
        secret = self.admin_site.admin_view(self.change_secret)
        return [
            path("<uuid:pk>/check/", check, name="integrations_platformcredential_check"),
            path("<uuid:pk>/secret/", secret, name="integrations_platformcredential_secret"),
            *super().get_urls(),
        ]

    def change_secret(self, request: HttpRequest, pk: str) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts}
        return secret_page.page(request, self._changeable(request, pk), context)

    def _changeable(self, request: HttpRequest, pk: str) -> PlatformCredential:
        credential = self.get_object(request, str(pk))
        if credential is None:
            raise Http404
        if not self.has_change_permission(request, credential):
            raise PermissionDenied
        return credential

    def check_connection(self, request: HttpRequest, pk: str) -> HttpResponse:
        credential = self._changeable(request, pk)
        findings = credential_check.check(credential)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Connection of %(credential)s") % {"credential": credential},
            "credential": credential,
            "findings": findings,
            "worst": findings[0].level,
            "summary": _summary(findings),
            "opts": self.opts,
        }
        return TemplateResponse(request, "integrations/check_result.html", context)


def _summary(findings: list[Finding]) -> str:
    """For findings in the order of the worst first."""
    worst = findings[0].level
    count = sum(one.level == worst for one in findings)
    if worst == "ok":
        return gettext("All is right.")
    if worst == "warning":
        return ngettext("It works, with %(count)s warning.", "It works, with %(count)s warnings.", count) % {
            "count": count
        }
    return ngettext("%(count)s thing must be put right.", "%(count)s things must be put right.", count) % {
        "count": count
    }


def _meter(state: quota.State) -> SafeString:
    """A quota in words, with a bar where a limit is known."""
    name = QuotaUsage.Quota(state.quota).label
    if not state.limit:
        words = gettext("%(used)s %(calls)s, no limit set") % {"used": f"{state.used:,}", "calls": name}
    else:
        values = {"used": f"{state.used:,}", "limit": f"{state.limit:,}", "share": f"{state.share:.0%}", "calls": name}
        words = gettext("%(used)s of %(limit)s %(calls)s (%(share)s)") % values
    if state.is_used_up:
        words = gettext("%(words)s; the platform says it is used up") % {"words": words}
    bar = format_html('<progress value="{}" max="{}"></progress> ', state.used, state.limit) if state.limit else ""
    return format_html("{}{}", bar, words)
