"""The admin of bots: who they are, how they answer, what they may cost."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from bots.admin.endpoints import modes_in_use
from bots.models import Bot, Endpoint
from bots.models.bot import LINK_HOST, MOST_LINK_HOSTS
from monitoring.admin import AuditedModelAdmin


class HostsField(forms.CharField):
    """One host a line, a list to Python."""

    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (initial or []) != self.to_python(data)

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]  # a list of lines, as the model keeps it
        return value if isinstance(value, list) else str(value or "").split()

    def validate(self, value: list[str]) -> None:
        if len(value) > MOST_LINK_HOSTS:
            raise ValidationError(_("At most %(most)d hosts."), params={"most": MOST_LINK_HOSTS})
        for host in value:
            if not LINK_HOST.fullmatch(host):
                text = _("%(host)s is no host name. Write it in lower case, like docs.example.com.")
                raise ValidationError(text, params={"host": host})

    def run_validators(self, value: list[str]) -> None:
        """Those of a text do not apply."""


class BotForm(forms.ModelForm):
    allowed_link_hosts = HostsField(
        label=_("Hosts that links may lead to"),
        required=False,
        help_text=_(
            "One a line, *.example.com for all below it. Empty: links in answers stay, with their target visible."
        ),
    )

    class Meta:
        model = Bot
        fields = "__all__"  # noqa: DJ007  (the admin's fieldsets choose)
        widgets = {
            "system_prompt": UnfoldAdminTextareaWidget(attrs={"rows": 8}),
            "welcome_text": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        }
        help_texts = {
            "name": _("What people see."),
            "model": _("What computes the answers."),
            "system_prompt": _("Who the bot is and how it should answer. It comes before every conversation."),
            "welcome_text": _("Shown when somebody opens the chat for the first time."),
            "ai_notice": _(
                "A line under each answer that says it was made by AI. Chinese rules ask for one. Empty: none."
            ),
            "temperature": _("0 answers nearly the same each time, 1 varies freely."),
            "top_p": _("Leave it at 1 unless the model's maker advises otherwise."),
            "max_tokens": _("About 1 token for each Chinese character, 3 for 4 English words."),
            "history_messages": _("How many earlier messages of the conversation the model sees. 0: none."),
            "context_scope": _("Whose words may be remembered together in a group."),
            "group_policy": _("When the bot answers in a group."),
            "too_late_after_s": _("A question that could not be answered in this time gets an apology instead."),
        }


class EndpointInline(TabularInline):
    """Where the bot is reached. Endpoints are made on a page of their own."""

    model = Endpoint
    fields = readonly_fields = ["credential", "mode", "is_enabled", "last_event_at"]
    extra = 0
    can_delete = False
    show_change_link = True
    verbose_name_plural = _("reached at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        return super().get_queryset(request).select_related("bot", "credential")


@admin.register(Bot)
class BotAdmin(AuditedModelAdmin):
    form = BotForm
    list_display = ["name", "slug", "model", "state", "reached_by", "updated_at", "talk"]
    list_filter = ["is_enabled", "model", "team", "reply_mode"]
    search_fields = ["name", "slug", "system_prompt"]
    list_select_related = ["model"]
    autocomplete_fields = ["model", "fallback_model", "team"]
    prepopulated_fields = {"slug": ["name"]}
    inlines = [EndpointInline]
    actions = ["enable", "disable"]
    actions_detail = ["open_playground"]
    fieldsets = [
        (None, {"fields": ["name", "slug", "model", "fallback_model", "is_enabled", "team"]}),
        (_("Character"), {"classes": ["tab"], "fields": ["system_prompt", "welcome_text", "ai_notice"]}),
        (
            _("Answers"),
            {
                "classes": ["tab"],
                "fields": [
                    "reply_mode",
                    "answers_together",
                    ("temperature", "top_p"),
                    "max_tokens",
                    "allowed_link_hosts",
                ],
            },
        ),
        (_("Memory and groups"), {"classes": ["tab"], "fields": ["history_messages", "context_scope", "group_policy"]}),
        (
            _("Limits"),
            {
                "classes": ["tab"],
                "fields": [
                    "rate_limit_per_user_per_minute",
                    "daily_tokens_per_user",
                    "too_late_after_s",
                    "max_waiting",
                ],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bot]:
        return super().get_queryset(request).prefetch_related("endpoints__credential")

    @display(description=_("state"), label={"on": "success", "off": "default"}, ordering="is_enabled")
    def state(self, bot: Bot) -> tuple[str, Any]:
        return ("on", _("enabled")) if bot.is_enabled else ("off", _("disabled"))

    @admin.display(description=_("reached by"))
    def reached_by(self, bot: Bot) -> str:
        return modes_in_use(bot.endpoints.all())

    @admin.display(description=_("playground"))
    def talk(self, bot: Bot) -> SafeString | str:
        if not bot.is_enabled:
            return "–"
        icon = '<span class="material-symbols-outlined" aria-hidden="true">forum</span>'
        link = f'<a class="cb-link" href="{{}}">{icon}{{}}</a>'
        return format_html(link, reverse("playground-chat", args=[bot.slug]), _("Talk"))

    @action(description=_("Playground"), url_path="playground", icon="forum", permissions=["view"])
    def open_playground(self, request: HttpRequest, object_id: str) -> HttpResponse:
        bot = self.get_object(request, object_id)
        page = reverse("playground-chat", args=[bot.slug]) if bot else reverse("admin:bots_bot_changelist")
        return HttpResponseRedirect(page)

    @admin.action(description=_("Enable"), permissions=["change"])
    def enable(self, request: HttpRequest, bots: QuerySet[Bot]) -> None:
        self._switch(bots, is_enabled=True)

    @admin.action(description=_("Disable: they stop answering"), permissions=["change"])
    def disable(self, request: HttpRequest, bots: QuerySet[Bot]) -> None:
        self._switch(bots, is_enabled=False)

    def _switch(self, bots: QuerySet[Bot], *, is_enabled: bool) -> None:
        for bot in bots:
            bot.is_enabled = is_enabled
            bot.save(update_fields=["is_enabled", "updated_at"])
