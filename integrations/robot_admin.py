"""The admin of custom group robots: what to paste from the group's settings, and a test message with its outcome."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import display

from clawdbot_site.security.secret_forms import SecretsForm
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from integrations import group_robots
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.models import GroupRobot
from monitoring import audit
from monitoring.admin import AuditedModelAdmin


class GroupRobotForm(SecretsForm):
    class Meta:
        model = GroupRobot
        fields = ["name", "platform", "team", "webhook_url", "signing_secret", "is_enabled"]
        help_texts = {
            "name": _("For you: how this group is called in lists."),
            "webhook_url": _(
                "DingTalk: group settings, Robots (机器人), Custom (自定义), Webhook. "
                "Feishu: group settings, Bots (群机器人), Custom Bot (自定义机器人), Webhook URL."
            ),
            "signing_secret": _("Only if signing (加签, 签名校验) is on for the robot: the secret shown there."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding and "platform" in self.fields:
            self.fields["platform"].disabled = True
            self.fields["platform"].help_text = _("A robot stays on its platform. Make another one.")

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if given := data.get("webhook_url"):
            try:
                data["webhook_url"] = group_robots.checked_address(data.get("platform", ""), given)
            except ValueError as problem:
                self.add_error("webhook_url", ValidationError(str(problem)))
        return data


@admin.register(GroupRobot)
class GroupRobotAdmin(OfTeams, AuditedModelAdmin):
    form = GroupRobotForm
    list_display = ["name", "where", "state", "team", "last_sent_at", "trouble"]
    list_filter = ["platform", "is_enabled", ("team", VisibleFilter)]
    search_fields = ["name"]
    list_select_related = ["team"]
    readonly_fields = ["last_sent_at", "last_error"]
    change_form_outer_before_template = "integrations/robot_panel.html"
    fieldsets = [
        (None, {"fields": ["name", "platform", "team", "is_enabled"]}),
        (
            _("From the group's settings"),
            {
                "description": _("Secrets are encrypted before they are stored, and nobody can read them here again."),
                "fields": ["webhook_url", "signing_secret"],
            },
        ),
        (_("State"), {"fields": ["last_sent_at", "last_error"]}),
    ]
    add_fieldsets = fieldsets[:2]

    @display(description=_("platform"), label=True, ordering="platform")
    def where(self, robot: GroupRobot) -> str:
        return robot.get_platform_display()

    @display(description=_("state"), label={"on": "success", "off": "default"}, ordering="is_enabled")
    def state(self, robot: GroupRobot) -> tuple[str, Any]:
        return ("on", _("enabled")) if robot.is_enabled else ("off", _("disabled"))

    @admin.display(description=_("last error"))
    def trouble(self, robot: GroupRobot) -> SafeString | str:
        return (
            format_html('<span class="cb-clip" title="{0}">{0}</span>', robot.last_error) if robot.last_error else "–"
        )

    # -- the test message --

    def get_urls(self) -> list[URLPattern]:
        test = self.admin_site.admin_view(require_POST(self.send_test))
        return [path("<uuid:pk>/test/", test, name="integrations_grouprobot_test"), *super().get_urls()]

    def send_test(self, request: HttpRequest, pk: str) -> HttpResponse:
        robot = self.get_object(request, str(pk))
        if robot is None:
            raise Http404
        if not self.has_change_permission(request, robot):
            raise PermissionDenied
        self._send_test(request, robot)
        return HttpResponseRedirect(reverse("admin:integrations_grouprobot_change", args=[pk]))

    def _send_test(self, request: HttpRequest, robot: GroupRobot) -> None:
        outcome = "sent"
        try:
            group_robots.notify(robot, gettext("Test"), gettext("A test message from ClawdBot. All is well."))
            messages.success(request, _("The message is in the group."))
        except OutcomeUnknown as problem:
            outcome = "unknown"
            messages.warning(request, str(problem))
        except PlatformError as problem:
            outcome = "refused"
            messages.error(request, str(problem))
        audit.record("grouprobot.tested", target=robot, changes={"outcome": outcome})
