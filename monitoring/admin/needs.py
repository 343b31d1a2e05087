"""The admin of alerts: what needs a person, how the rules are set, and what is to be silent for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from monitoring.admin.base import AuditedModelAdmin, ReadOnlyModelAdmin
from monitoring.alerting import handling, rules
from monitoring.models import Alert, AlertRule, Silence
from monitoring.models.alerts import check_until, is_silenced

SILENT_FOR = timedelta(hours=4)
TONES = {"critical": "danger", "warning": "warning"}


class OpenFilter(admin.SimpleListFilter):
    title, parameter_name = _("state"), "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("open", _("open")), ("closed", _("closed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        wanted = {"open": True, "closed": False}.get(self.value() or "")
        return queryset if wanted is None else queryset.filter(closed_at__isnull=wanted)


@admin.register(Alert)
class AlertAdmin(ReadOnlyModelAdmin):
    list_display = ["opened_at", "level", "summary", "rule", "subject", "state"]
    list_display_links = ("opened_at", "summary")
    list_filter = [OpenFilter, "severity", "rule"]
    search_fields = ["rule", "subject", "summary"]
    list_per_page = 50
    actions = ("acknowledge",)
    change_form_outer_before_template = "monitoring/alert_panel.html"
    fieldsets = [
        (None, {"fields": ["title", "subject", "severity", "summary", "details"]}),
        (_("When"), {"fields": ["opened_at", "closed_at", "acknowledged_at", "acknowledged_by"]}),
    ]

    @display(description=_("severity"), label=TONES, ordering="severity")
    def level(self, alert: Alert) -> tuple[str, Any]:
        return alert.severity, alert.get_severity_display()

    @display(
        description=_("state"),
        label={"open": "danger", "acknowledged": "info", "closed": "success"},
        ordering="closed_at",
    )
    def state(self, alert: Alert) -> tuple[str, Any]:
        if alert.closed_at:
            return "closed", _("closed")
        return ("acknowledged", _("acknowledged")) if alert.acknowledged_at else ("open", _("open"))

    @admin.display(description=_("rule"))
    def title(self, alert: Alert) -> str:
        rule = rules.find(alert.rule)
        return f"{rule.title} ({alert.rule})" if rule else alert.rule

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for _title, options in self.fieldsets for name in options["fields"]]

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("monitoring.change_alert")

    @admin.action(description=_("Acknowledge"), permissions=["acknowledge"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        done = sum(
            handling.acknowledge(alert, request.user.get_username()) for alert in queryset.filter(closed_at=None)
        )
        text = ngettext("%(count)d alert is acknowledged.", "%(count)d alerts are acknowledged.", done)
        messages.success(request, text % {"count": done})

    def get_urls(self) -> list[URLPattern]:
        page = self.admin_site.admin_view(require_POST(self.acknowledge_one))
        return [path("<uuid:pk>/acknowledge/", page, name="monitoring_alert_acknowledge"), *super().get_urls()]

    def acknowledge_one(self, request: HttpRequest, pk: str) -> HttpResponse:
        alert = self.get_object(request, str(pk))
        if alert is None:
            raise Http404
        if not self.has_acknowledge_permission(request):
            raise PermissionDenied
        if handling.acknowledge(alert, request.user.get_username()):
            messages.success(request, _("You look after it: nobody is reminded of it any more."))
        else:
            messages.info(request, _("It is closed, or somebody looks after it already."))
        return HttpResponseRedirect(reverse("admin:monitoring_alert_change", args=[pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        alert = self.get_object(request, object_id)
        more = _panel(request, alert, self.has_acknowledge_permission(request)) if alert else {}
        response: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})
        return response


def _panel(request: HttpRequest, alert: Alert, may_act: bool) -> dict[str, Any]:
    page = reverse("admin:monitoring_silence_add")
    return {
        "may_acknowledge": may_act and not alert.closed_at and not alert.acknowledged_at,
        "is_silent": is_silenced(alert, Silence.objects.in_force()),
        "silence_page": f"{page}?{urlencode({'rule': alert.rule, 'subject': alert.subject})}",
        "may_silence": request.user.has_perm("monitoring.add_silence") and not alert.closed_at,
    }


@admin.register(AlertRule)
class AlertRuleAdmin(AuditedModelAdmin):
    """The list is fixed; each rule can be set, or switched off."""

    list_display = ["title", "name", "group", "limit", "lasting", "state"]
    list_display_links = ("title",)
    list_filter = ["is_enabled"]
    search_fields = ["name"]
    readonly_fields = ["title", "name", "defaults"]
    fieldsets = [
        (None, {"fields": ["title", "name", "is_enabled"]}),
        (_("Settings"), {"fields": ["threshold", "for_s", "severity", "defaults"]}),
    ]
    list_per_page = 100

    @admin.display(description=_("what it tells of"))
    def title(self, row: AlertRule) -> str:
        rule = rules.find(row.name)
        return str(rule.title) if rule else row.name

    @admin.display(description=_("group"))
    def group(self, row: AlertRule) -> str:
        return str(rules.GROUPS[rules.group_of(row.name)])

    @admin.display(description=_("threshold"))
    def limit(self, row: AlertRule) -> str:
        rule = rules.find(row.name)
        if rule is None or rule.threshold is None:
            return "–"
        return f"{rules.Setting.of(rule, row).threshold:g} {rule.unit}"

    @admin.display(description=_("for so long, seconds"))
    def lasting(self, row: AlertRule) -> str:
        rule = rules.find(row.name)
        return f"{rules.Setting.of(rule, row).for_s:g}" if rule and rule.look else "–"

    @display(description=_("state"), label={"on": "success", "off": "default"}, ordering="is_enabled")
    def state(self, row: AlertRule) -> tuple[str, Any]:
        return ("on", _("enabled")) if row.is_enabled else ("off", _("disabled"))

    @admin.display(description=_("defaults"))
    def defaults(self, row: AlertRule) -> str:
        rule = rules.find(row.name)
        if rule is None:
            return "–"
        threshold = "" if rule.threshold is None else f"{rule.threshold:g} {rule.unit}"
        return ", ".join(part for part in (threshold, f"{rule.for_s:g} s", rule.severity) if part)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, *fixed_fields(obj)]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertRule]:
        rules.ensure_rows()
        return super().get_queryset(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def fixed_fields(row: AlertRule | None) -> list[str]:
    """What cannot be set: what something else opens and closes can only be switched off."""
    rule = rules.find(row.name) if row else None
    fixed = [] if rule and rule.threshold is not None else ["threshold"]
    return [*fixed, *([] if rule and rule.look else ["for_s", "severity"])]


class SilenceForm(forms.ModelForm):
    rule = forms.ChoiceField(label=_("rule"), required=False, widget=UnfoldAdminSelectWidget)

    class Meta:
        model = Silence
        fields = ["rule", "subject", "until", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "rule" in self.fields:
            field = cast(forms.ChoiceField, self.fields["rule"])
            field.label = capfirst(_("rule"))
            known = [(rule.name, f"{rule.title} ({rule.name})") for rule in rules.all_rules()]
            field.choices = [("", _("all rules")), *sorted(known, key=lambda one: str(one[1]))]

    def clean_until(self) -> Any:
        until = self.cleaned_data["until"]
        check_until(until)
        return until


@admin.register(Silence)
class SilenceAdmin(AuditedModelAdmin):
    form = SilenceForm
    list_display = ["what", "until", "state", "reason", "created_by"]
    list_display_links = ("what",)
    search_fields = ["rule", "subject", "reason"]
    readonly_fields = ["created_by", "created_at"]
    fieldsets = [(None, {"fields": ["rule", "subject", "until", "reason"]})]

    @admin.display(description=_("what"))
    def what(self, silence: Silence) -> str:
        return " · ".join(part for part in (silence.rule, silence.subject) if part) or str(_("everything"))

    @display(description=_("state"), label={"on": "warning", "off": "default"})
    def state(self, silence: Silence) -> tuple[str, Any]:
        return ("on", _("silent")) if silence.until > timezone.now() else ("off", _("over"))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"until": timezone.now() + SILENT_FOR, **super().get_changeform_initial_data(request)}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = request.user.get_username()[:200]
        super().save_model(request, obj, form, change)
