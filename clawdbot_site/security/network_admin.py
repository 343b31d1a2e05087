"""The admin of network rules: one by one, and as lists to take in and to give out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from clawdbot_site.security import rule_lists
from clawdbot_site.security.ip_rules import normalise
from clawdbot_site.security.models import IPRule, User
from clawdbot_site.security.models.network import validate_network
from clawdbot_site.security.network_api import download
from clawdbot_site.security.serializers import would_lock_out
from clawdbot_site.security.throttling import address_of
from monitoring.admin import AuditedModelAdmin


class IPRuleForm(forms.ModelForm):
    confirm_lockout = forms.BooleanField(
        label=_("Refuse my own address"),
        required=False,
        help_text=_("Needed for a rule that shuts out the address you are calling from."),
    )
    own_address = ""  # set by the admin for each request

    class Meta:
        model = IPRule
        fields = ["action", "network", "scope", "endpoint_id", "expires_at", "is_dry_run", "note"]

    def clean_network(self) -> str:
        validate_network(self.cleaned_data["network"])
        return normalise(self.cleaned_data["network"])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        is_complete = {"action", "network", "scope"} <= set(data)
        if is_complete and not data.get("confirm_lockout") and would_lock_out(self.own_address, self._candidate(data)):
            text = _("This would refuse your own address %(address)s. Tick the box if you mean it.")
            self.add_error("confirm_lockout", ValidationError(text, params={"address": self.own_address}))
        return data

    def _candidate(self, data: dict[str, Any]) -> IPRule:
        names = ("action", "network", "scope", "endpoint_id", "expires_at", "is_dry_run")
        return IPRule(id=self.instance.pk, **{name: data.get(name) for name in names})


class ImportForm(forms.Form):
    """A text or a file, and what holds for lines that do not say it themselves."""

    text = forms.CharField(
        label=_("Networks"),
        required=False,
        max_length=rule_lists.MOST_BYTES,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 12, "spellcheck": "false"}),
        help_text=_("One a line, like 10.0.0.0/8, with a note after #; or CSV as it is exported."),
    )
    file = forms.FileField(label=_("or a file"), required=False)
    action = forms.ChoiceField(
        label=_("action"), choices=IPRule.Action, initial=IPRule.Action.BLOCK, widget=UnfoldAdminSelectWidget
    )
    scope = forms.ChoiceField(label=_("applies to"), choices=IPRule.Scope, widget=UnfoldAdminSelectWidget)
    expires_at = forms.SplitDateTimeField(label=_("expires at"), required=False, widget=UnfoldAdminSplitDateTimeWidget)
    is_dry_run = forms.BooleanField(label=_("on trial"), required=False, widget=UnfoldBooleanWidget)
    note = forms.CharField(label=_("note"), required=False, max_length=200, widget=UnfoldAdminTextInputWidget)
    confirm_lockout = forms.BooleanField(label=_("Refuse my own address"), required=False, widget=UnfoldBooleanWidget)

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file and file.size > rule_lists.MOST_BYTES:
            raise ValidationError(_("A list may have at most 8 MiB."))
        return file

    def given_text(self) -> str:
        file = self.cleaned_data.get("file")
        return file.read().decode("utf-8", "replace") if file else str(self.cleaned_data["text"])


@admin.register(IPRule)
class IPRuleAdmin(AuditedModelAdmin):
    form = IPRuleForm
    list_display = ["network", "action", "scope", "in_force", "is_dry_run", "is_automatic", "hits", "last_hit_at"]
    list_display += ["expires_at", "note", "created_by"]
    list_filter = ["action", "scope", "is_automatic", "is_dry_run", "expires_at", "created_at"]
    actions_list = ["import_list", "export_list"]
    search_fields = ["network", "note", "created_by__username"]
    list_select_related = ["created_by"]
    readonly_fields = ["is_automatic", "hits", "last_hit_at", "created_at", "updated_at", "created_by"]
    fieldsets = [
        (None, {"fields": ["action", "network", "scope", "endpoint_id", "expires_at", "is_dry_run", "note"]}),
        (None, {"fields": ["confirm_lockout"]}),
        (_("Use"), {"fields": ["is_automatic", "hits", "last_hit_at", "created_at", "updated_at", "created_by"]}),
    ]

    @admin.display(description=_("in force"), boolean=True)
    def in_force(self, rule: IPRule) -> bool:
        return rule.expires_at is None or rule.expires_at > timezone.now()

    def get_form(self, request: HttpRequest, obj: IPRule | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"own_address": address_of(request)})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change and isinstance(request.user, User):
            obj.created_by = request.user
        super().save_model(request, obj, form, change)

    def get_deleted_objects(self, objs: Iterable[IPRule], request: HttpRequest) -> Any:
        """Protect rules without which whoever asks would be shut out; they can be changed, with a confirmation."""
        shown, counts, needed, protected = super().get_deleted_objects(objs, request)
        needful = [rule for rule in objs if would_lock_out(address_of(request), rule, is_deleted=True)]
        texts = [_("%(rule)s: without it your own address would be refused") % {"rule": rule} for rule in needful]
        return shown, counts, needed, [*protected, *texts]

    # -- lists --

    @action(description=_("Import a list"), url_path="import", permissions=["add"], icon="upload")
    def import_list(self, request: HttpRequest) -> HttpResponse:
        """First what the list says, line by line; then, when it is meant so, all of it."""
        form = ImportForm(request.POST or None, request.FILES or None)
        if request.method != "POST" or not form.is_valid():
            return self._page(request, form)
        text = form.given_text()
        reading = rule_lists.read(text, form.cleaned_data)
        address = address_of(request)
        locks_out = not reading.problem_count and rule_lists.would_lock_out(reading, address)
        is_confirmed = not locks_out or form.cleaned_data["confirm_lockout"]
        if "import" in request.POST and not reading.problem_count and is_confirmed:
            return self._store(request, reading)
        again = ImportForm(initial={**form.cleaned_data, "text": text, "file": None})
        return self._page(request, again, reading=reading, locks_out=locks_out, address=address)

    @action(description=_("Export CSV"), url_path="export", permissions=["view"], icon="download")
    def export_list(self, request: HttpRequest) -> HttpResponse:
        return download()

    def _page(self, request: HttpRequest, form: ImportForm, **found: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": _("Import network rules"), "form": form, **found}
        return TemplateResponse(request, "security/import_rules.html", context)

    def _store(self, request: HttpRequest, reading: rule_lists.Reading) -> HttpResponse:
        count = rule_lists.store(reading, request.user if isinstance(request.user, User) else None)
        text = ngettext("%(count)s rule was imported.", "%(count)s rules were imported.", count)
        messages.success(request, text % {"count": count})
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:security_iprule_changelist"))
