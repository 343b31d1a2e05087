"""The admin of endpoints. The address is a secret: it stands on the endpoint's own page, for who may change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from bots.admin.console_steps import guide_for
from bots.models import Endpoint, LongConnection
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from monitoring import audit
from monitoring.admin import AuditedModelAdmin


def modes_in_use(endpoints: Iterable[Endpoint]) -> str:
    """The platforms of the enabled ones, in words."""
    names = {str(one.credential.get_platform_display()) for one in endpoints if one.is_enabled}
    return ", ".join(sorted(names)) or "–"


@admin.register(Endpoint)
class EndpointAdmin(OfTeams, AuditedModelAdmin):
    list_display = ["__str__", "platform", "mode", "state", "last_event_at", "trouble"]
    list_filter = ["is_enabled", "mode", "credential__platform", ("bot", VisibleFilter)]
    search_fields = ["bot__name", "bot__slug", "credential__name", "credential__app_id"]
    list_select_related = ["bot", "credential"]
    autocomplete_fields = ["bot", "credential"]
    readonly_fields = ["live_state", "last_event_at", "last_error"]
    date_hierarchy = "created_at"
    change_form_outer_before_template = "bots/endpoint_guide.html"
    fieldsets = [
        (None, {"fields": ["bot", "credential", "mode", "is_enabled"]}),
        (_("Delivery and limits"), {"fields": ["unconfirmed_policy", "rate_limit_per_minute"]}),
        (_("State"), {"fields": ["live_state", "last_event_at", "last_error"]}),
    ]
    add_fieldsets = fieldsets[:2]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        words = {
            "bot": _("Who answers."),
            "credential": _("The app on the platform. It can have one enabled endpoint at a time."),
            "mode": _("Long connections need no address on the internet. Webhooks need one, and suit several servers."),
        }
        return super().get_form(request, obj, change, **{**kwargs, "help_texts": words})

    @display(description=_("platform"), label=True, ordering="credential__platform")
    def platform(self, endpoint: Endpoint) -> str:
        return endpoint.credential.get_platform_display()

    @display(description=_("state"), label={"on": "success", "off": "default"}, ordering="is_enabled")
    def state(self, endpoint: Endpoint) -> tuple[str, Any]:
        return ("on", _("enabled")) if endpoint.is_enabled else ("off", _("disabled"))

    @admin.display(description=_("long connection"))
    def live_state(self, endpoint: Endpoint) -> str:
        row = LongConnection.objects.filter(pk=endpoint.pk, endpoint__mode=Endpoint.Mode.STREAM).first()
        if row is None:
            return "–"
        if row.current_state != LongConnection.State.CONNECTED or row.connected_at is None:
            return str(row.current_state.label)
        return gettext("connected since %(since)s, held by %(holder)s, reconnected %(count)s times") % {
            "since": f"{localtime(row.connected_at):%Y-%m-%d %H:%M}",
            "holder": row.holder,
            "count": row.reconnects,
        }

    @admin.display(description=_("last error"))
    def trouble(self, endpoint: Endpoint) -> SafeString | str:
        return format_html('<span class="cb-clip" title="{0}">{0}</span>', endpoint.last_error) or "–"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        endpoint = self.get_object(request, object_id)
        shown = self._guide(request, endpoint) if endpoint else {}
        response: HttpResponse = super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})
        return response

    def _guide(self, request: HttpRequest, endpoint: Endpoint) -> dict[str, Any]:
        guide = guide_for(endpoint)
        is_shown = guide.needs_address and self.has_change_permission(request, endpoint)
        if is_shown:
            audit.record_read("endpoint.address_read", target=endpoint)
        return {"guide": guide, "webhook_url": endpoint.webhook_url if is_shown else ""}

    def response_add(self, request: HttpRequest, obj: Endpoint, post_url_continue: str | None = None) -> HttpResponse:
        """What comes next is in the platform's console, and the steps are on the new endpoint's page."""
        if {"_addanother", "_popup"} & set(request.POST):
            response: HttpResponse = super().response_add(request, obj, post_url_continue)
            return response
        messages.success(request, _("The endpoint is ready. The steps in the platform's console are below."))
        return HttpResponseRedirect(reverse("admin:bots_endpoint_change", args=[obj.pk]))
