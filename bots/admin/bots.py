"""The admin of bots: who they are, how they answer, what they may cost."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextareaWidget

from bots import limits
from bots.admin.endpoints import modes_in_use
from bots.admin.lines import HostsField, LinesField
from bots.choice import models_of_another_queue, moderator_fault
from bots.models import Bot, Endpoint, WordList
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from clawdbot_site.security.teams import visible
from monitoring.admin import AuditedModelAdmin


class BotForm(forms.ModelForm):
    allowed_link_hosts = HostsField(
        label=_("Hosts that links may lead to"),
        required=False,
        help_text=_(
            "One a line, *.example.com for all below it. Links to other hosts are shown, but cannot be clicked. "
            "Empty: links in answers stay, with their target visible."
        ),
    )

    allowed_users = LinesField(
        label=_("Persons"), required=False, help_text=_("Their IDs on the platform, one a line: open_id or staff ID.")
    )
    allowed_departments = LinesField(
        label=_("Departments"), required=False, help_text=_("Their IDs on the platform, one a line.")
    )
    allowed_chats = LinesField(
        label=_("Groups"), required=False, help_text=_("IDs of groups in which everybody may talk to it, one a line.")
    )

    class Meta:  # the admin names the model, and its fieldsets choose the fields
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
            "access": _("In chats. Who may use the API is decided by its keys."),
            "moderation_instruction": _(
                "In plain words: what it should refuse. Empty: whatever is unlawful or harmful."
            ),
            "moderation_failure": _("Its service is down, it takes too long, or it says neither yes nor no."),
            "daily_tokens": _("Of everybody who talks to it. 0: no limit."),
            "daily_messages": _("Of everybody who talks to it. 0: no limit."),
            "too_late_after_s": _("A question that could not be answered in this time gets an apology instead."),
        }

    def clean(self) -> dict[str, Any] | None:
        given = super().clean() or {}
        lists = ("allowed_users", "allowed_departments", "allowed_chats")
        if given.get("access") == Bot.Access.LISTED and not any(given.get(name) for name in lists):
            self.add_error("access", _("Nobody is listed, so nobody could talk to the bot. List somebody below."))
        if foreign := models_of_another_queue(given.get("model"), given.get("choosable_models") or ()):
            text = _("%(models)s: on another worker queue than the bot's model. Choose models of the same queue.")
            self.add_error("choosable_models", text % {"models": ", ".join(foreign)})
        if reason := moderator_fault(given.get("model"), given.get("moderator")):
            self.add_error("moderator", reason)
        return given


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
        return visible(super().get_queryset(request), request.user).select_related("bot", "credential")


@admin.register(Bot)
class BotAdmin(OfTeams, AuditedModelAdmin):
    form = BotForm
    list_display = ["name", "slug", "model", "state", "reached_by", "updated_at", "talk"]
    list_filter = ["is_enabled", "model", ("team", VisibleFilter), "reply_mode", "access"]
    search_fields = ["name", "slug", "system_prompt"]
    list_select_related = ["model"]
    autocomplete_fields = ["model", "fallback_model", "moderator", "choosable_models"]
    prepopulated_fields = {"slug": ["name"]}
    inlines = [EndpointInline]
    actions = ["enable", "disable"]
    actions_detail = ["open_playground"]
    readonly_fields = ["lists", "used_today"]
    fieldsets = [
        (None, {"fields": ["name", "slug", "model", "fallback_model", "is_enabled", "team"]}),
        (_("Character"), {"classes": ["tab"], "fields": ["system_prompt", "welcome_text", "ai_notice"]}),
        (
            _("Answers"),
            {
                "classes": ["tab"],
                "fields": [
                    "reply_mode",
                    "choosable_models",
                    "answers_together",
                    ("temperature", "top_p"),
                    "max_tokens",
                ],
            },
        ),
        (
            _("Content"),
            {
                "classes": ["tab"],
                "fields": [
                    "allowed_link_hosts",
                    "lists",
                    "moderator",
                    "moderation_instruction",
                    "moderates",
                    ("moderation_failure", "moderation_timeout_s"),
                    "keep_messages_days",
                ],
            },
        ),
        (_("Memory and groups"), {"classes": ["tab"], "fields": ["history_messages", "context_scope", "group_policy"]}),
        (
            _("Who may talk"),
            {"classes": ["tab"], "fields": ["access", "allowed_users", "allowed_departments", "allowed_chats"]},
        ),
        (
            _("Limits"),
            {
                "classes": ["tab"],
                "fields": [
                    "rate_limit_per_user_per_minute",
                    ("daily_messages_per_user", "daily_tokens_per_user", "max_parallel_per_user"),
                    ("daily_messages", "daily_tokens", "max_parallel"),
                    "used_today",
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

    @admin.display(description=_("word lists"))
    def lists(self, bot: Bot) -> SafeString | str:
        """Those in force, with the way to their pages."""
        rows = WordList.objects.filter(Q(is_for_all=True) | Q(bots=bot.pk), is_enabled=True).distinct()
        link = '<a class="cb-link" href="{}">{}</a> ({})'
        pages = [(reverse("admin:bots_wordlist_change", args=[row.pk]), row.name, row.action) for row in rows]
        return format_html_join(", ", link, pages) or "–"

    @admin.display(description=_("used today"))
    def used_today(self, bot: Bot) -> str:
        messages, tokens = limits.used_today(bot)
        return _("%(messages)d messages, %(tokens)d tokens") % {"messages": messages, "tokens": tokens}

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
