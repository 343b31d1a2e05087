"""The admin of alert channels: where to tell of alerts, a test of each, and every notice with what became of it."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from monitoring import audit
from monitoring.admin.base import AuditedModelAdmin, ReadOnlyModelAdmin
from monitoring.alerting import notices, senders
from monitoring.models import AlertChannel, AlertNotice

ROBOT, EMAIL, WEBHOOK = "robot", "email", "webhook"


class ChannelForm(forms.ModelForm):
    """What is stored stays where a field is left blank; a new address wants its secret again."""

    kind = forms.ChoiceField(label=_("kind"), widget=UnfoldAdminSelectWidget)
    robot = forms.ChoiceField(label=_("group robot"), required=False, widget=UnfoldAdminSelectWidget)
    emails = forms.CharField(
        label=_("e-mail addresses"),
        required=False,
        max_length=1000,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("With commas between them. The mail server is set by EMAIL_URL."),
    )
    url = forms.CharField(
        label=_("address"),
        required=False,
        max_length=1000,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "url", "autocomplete": "off"}),
        help_text=_("Gets a POST with JSON, as docs/monitoring.md describes it."),
    )
    secret = forms.CharField(
        label=_("signing secret"),
        required=False,
        max_length=500,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
        help_text=_("whsec_ and 24 bytes or more in base64: notices are then signed as Standard Webhooks describes."),
    )

    class Meta:
        model = AlertChannel
        fields = ["name", "kind", "least_severity", "interval_s", "remind_after_h", "is_enabled"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stored = place_of(self.instance) if not self.instance._state.adding else ("", "")
        for field in self.fields.values():
            field.label = capfirst(field.label)
        if "kind" not in self.fields:
            return
        cast(forms.ChoiceField, self.fields["kind"]).choices = [(kind.name, kind.label) for kind in senders.kinds()]
        robot = senders.kind(ROBOT)
        choices = robot.choices() if robot and robot.choices else []
        cast(forms.ChoiceField, self.fields["robot"]).choices = [("", "–"), *choices]
        self._show_stored()

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        kind = senders.kind(data.get("kind", ""))
        if kind is None or self.errors:
            return data
        self.place = self._place(kind.name, data)
        try:
            kind.check(*self.place)
        except ValidationError as problem:
            self.add_error({ROBOT: "robot", EMAIL: "emails", WEBHOOK: "url"}[kind.name], problem)
        return data

    def save(self, commit: bool = True) -> Any:
        self.instance.put(*self.place)
        return super().save(commit)

    def _place(self, kind: str, data: dict[str, Any]) -> tuple[str, str]:
        if kind == ROBOT:
            return data.get("robot") or "", ""
        if kind == EMAIL:
            return data.get("emails") or "", ""
        kept_url, kept_secret = self._stored if self.instance.kind == WEBHOOK and self._is_stored() else ("", "")
        url, secret = data.get("url") or kept_url, data.get("secret") or ""
        if not secret and kept_secret and url != kept_url:
            self.add_error("secret", ValidationError(_("Give it again: the address now leads to another place.")))
        return url, secret or kept_secret

    def _is_stored(self) -> bool:
        return not self.instance._state.adding and self.initial.get("kind") == WEBHOOK

    def _show_stored(self) -> None:
        address, secret = self._stored
        if self.instance.kind == ROBOT:
            self.fields["robot"].initial = address
        elif self.instance.kind == EMAIL:
            self.fields["emails"].initial = address
        elif address:
            text = _("Stored, at %(host)s. Leave blank to keep it.") % {"host": urlsplit(address).hostname or "?"}
            self.fields["url"].help_text = text
            if secret:
                self.fields["secret"].help_text = _("Stored. Leave blank to keep it.")


def place_of(channel: AlertChannel) -> tuple[str, str]:
    """Empty where it cannot be read any more: then it has to be entered again."""
    try:
        return channel.place()
    except Exception:  # noqa: BLE001  (what the vault raises is the business of an app above)
        return "", ""


@admin.register(AlertChannel)
class AlertChannelAdmin(AuditedModelAdmin):
    form = ChannelForm
    list_display = ["name", "how", "where", "least_severity", "state", "last_sent_at", "trouble"]
    search_fields = ["name"]
    list_filter = ["kind", "is_enabled"]
    readonly_fields = ["last_sent_at", "last_error"]
    change_form_outer_before_template = "monitoring/channel_panel.html"
    conditional_fields = {
        "robot": "kind == 'robot'",
        "emails": "kind == 'email'",
        "url": "kind == 'webhook'",
        "secret": "kind == 'webhook'",
    }
    add_fieldsets = [
        (None, {"fields": ["name", "kind", "robot", "emails", "url", "secret", "is_enabled"]}),
        (_("What it is told"), {"fields": ["least_severity", "interval_s", "remind_after_h"]}),
    ]
    fieldsets = [*add_fieldsets, (_("State"), {"fields": ["last_sent_at", "last_error"]})]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj else self.add_fieldsets

    @display(description=_("kind"), label=True, ordering="kind")
    def how(self, channel: AlertChannel) -> str:
        kind = senders.kind(channel.kind)
        return str(kind.label) if kind else channel.kind

    @admin.display(description=_("where"))
    def where(self, channel: AlertChannel) -> str:
        address, _secret = place_of(channel)
        kind = senders.kind(channel.kind)
        if kind and kind.choices:
            return dict(kind.choices()).get(address, "–")
        return (urlsplit(address).hostname or "–") if channel.kind == WEBHOOK else address or "–"

    @display(description=_("state"), label={"on": "success", "off": "default"}, ordering="is_enabled")
    def state(self, channel: AlertChannel) -> tuple[str, Any]:
        return ("on", _("enabled")) if channel.is_enabled else ("off", _("disabled"))

    @admin.display(description=_("last error"))
    def trouble(self, channel: AlertChannel) -> SafeString | str:
        text = channel.last_error
        return format_html('<span class="cb-clip cb-error" title="{0}">{0}</span>', text) if text else "–"

    def get_urls(self) -> list[URLPattern]:
        test = self.admin_site.admin_view(require_POST(self.send_test))
        return [path("<uuid:pk>/test/", test, name="monitoring_alertchannel_test"), *super().get_urls()]

    def send_test(self, request: HttpRequest, pk: str) -> HttpResponse:
        channel = self.get_object(request, str(pk))
        if channel is None:
            raise Http404
        if not self.has_change_permission(request, channel):
            raise PermissionDenied
        row = notices.test(channel, gettext("Test"), gettext("A test message from ClawdBot. All is well."))
        audit.record("alertchannel.tested", target=channel, changes={"outcome": "refused" if row.error else "sent"})
        if row.error:
            messages.error(request, row.error)
        else:
            messages.success(request, _("The test message was sent."))
        return HttpResponseRedirect(reverse("admin:monitoring_alertchannel_change", args=[pk]))


@admin.register(AlertNotice)
class AlertNoticeAdmin(ReadOnlyModelAdmin):
    list_display = ["created_at", "channel", "title", "state", "attempts", "trouble"]
    list_display_links = ("created_at", "title")
    list_filter = ["channel"]
    list_select_related = ["channel"]
    search_fields = ["title", "text"]
    list_per_page = 50
    fields = ["channel", "title", "text", "created_at", "sent_at", "attempts", "next_attempt_at", "error"]

    @display(description=_("state"), label={"sent": "success", "waits": "warning", "given up": "danger"})
    def state(self, notice: AlertNotice) -> tuple[str, Any]:
        if notice.sent_at:
            return "sent", _("sent")
        return ("waits", _("waits")) if notice.next_attempt_at else ("given up", _("given up"))

    @admin.display(description=_("error"))
    def trouble(self, notice: AlertNotice) -> SafeString | str:
        text = notice.error
        return format_html('<span class="cb-clip" title="{0}">{0}</span>', text) if text else "–"
