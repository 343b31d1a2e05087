"""The admin of chat groups: where the bots are, and how each behaves there."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.decorators import action, display

from bots import chats
from bots.admin.message_words import moment
from bots.models import Chat
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from monitoring.admin import AuditedModelAdmin


@admin.register(Chat)
class ChatAdmin(OfTeams, AuditedModelAdmin):
    list_display = ["__str__", "bot", "endpoint", "group_policy", "state", "known_since"]
    list_filter = ["group_policy", ("endpoint__bot", VisibleFilter), "endpoint__credential__platform"]
    search_fields = ["name", "chat_id", "endpoint__bot__name"]
    search_help_text = _("Name or ID of the group, or the bot")
    list_select_related = ["endpoint__bot", "endpoint__credential"]
    list_editable = ["group_policy"]
    autocomplete_fields = ["endpoint"]
    readonly_fields = ["left_at"]
    actions_list = ["find"]
    fields = ["endpoint", "chat_id", "name", "group_policy", "left_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Chat]:
        return super().get_queryset(request).select_related("endpoint__bot", "endpoint__credential")

    @admin.display(description=_("bot"), ordering="endpoint__bot__name")
    def bot(self, chat: Chat) -> str:
        return chat.endpoint.bot.name

    @display(description=_("state"), label={"in": "success", "left": "default"}, ordering="left_at")
    def state(self, chat: Chat) -> tuple[str, Any]:
        return ("left", _("left")) if chat.left_at else ("in", _("member"))

    @admin.display(description=_("known since"), ordering="created_at")
    def known_since(self, chat: Chat) -> Any:
        return moment(chat.created_at)

    @action(description=_("Look for new groups"), url_path="find", icon="search", permissions=["add"])
    def find(self, request: HttpRequest) -> HttpResponse:
        """Those in which somebody wrote to a bot; found by themselves once an hour."""
        count = chats.find_new()
        text = ngettext("%(count)d new group was found.", "%(count)d new groups were found.", count)
        messages.success(request, text % {"count": count})
        return HttpResponseRedirect(reverse("admin:bots_chat_changelist"))
