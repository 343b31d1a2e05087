"""The admin of conversations: each reads like the chat it was."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.db.models import Count, Max, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from bots import forgetting
from bots.admin import events
from bots.admin.message_words import error_of, moment
from bots.admin.timings import in_words
from bots.forgetting import StillAnswering
from bots.models import Conversation, Message
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from monitoring import audit
from monitoring.admin import ReadOnlyModelAdmin

MOST_SHOWN = 100


@admin.register(Conversation)
class ConversationAdmin(OfTeams, ReadOnlyModelAdmin):
    list_display = ["__str__", "where", "kind", "message_count", "last_message_at", "began_at"]
    list_display_links = ("__str__",)
    list_filter = ["platform", ("bot", VisibleFilter), "chat_type", "created_at"]
    search_fields = ["user_name", "user_id", "chat_id", "bot__name", "bot__slug"]
    search_help_text = _("Person, chat or bot")
    list_select_related = ["bot"]
    date_hierarchy = "created_at"
    show_full_result_count = False
    list_per_page = 50
    change_form_outer_before_template = "bots/transcript.html"
    actions_detail = ["forget_person"]
    fields = ["bot", "platform", "chat_type", "chat_id", "user_name", "user_id", "context_started_at", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        of_this = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        rows: QuerySet[Conversation] = super().get_queryset(request)
        return rows.annotate(
            messages_count=Subquery(of_this.annotate(n=Count("pk")).values("n")),
            newest_at=Subquery(of_this.annotate(at=Max("received_at")).values("at")),
        )

    @display(description=_("platform"), label=True, ordering="platform")
    def where(self, conversation: Conversation) -> str:
        return conversation.get_platform_display()

    @admin.display(description=_("chat"), ordering="chat_type")
    def kind(self, conversation: Conversation) -> Any:
        return {"direct": _("direct"), "group": _("group")}.get(conversation.chat_type, conversation.chat_type)

    @admin.display(description=_("messages"))
    def message_count(self, conversation: Any) -> int:
        return conversation.messages_count or 0

    @admin.display(description=_("last message"), ordering="newest_at")
    def last_message_at(self, conversation: Any) -> Any:
        return moment(conversation.newest_at) if conversation.newest_at else "–"

    @admin.display(description=_("began"), ordering="created_at")
    def began_at(self, conversation: Conversation) -> Any:
        return moment(conversation.created_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        conversation = self.get_object(request, object_id)
        shown: dict[str, Any] = {}
        if conversation and self.has_view_permission(request, conversation):
            audit.record_read("conversation.read", target=conversation)
            shown = transcript(conversation, request.GET.get("before", ""))
            shown |= events.beside(request, conversation, (turn["row"] for turn in shown["turns"]))
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    def has_forget_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("bots.delete_conversation") and request.user.has_perm("bots.delete_message")

    @action(description=_("Forget this person"), url_path="forget", icon="person_off", permissions=["forget"])
    def forget_person(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks first, and says what remains."""
        conversation = self.get_object(request, object_id)
        if conversation is None or not conversation.user_id or conversation.scope_key.startswith(forgetting.SHARED):
            messages.warning(request, _("This conversation is not of one person."))
            return HttpResponseRedirect(reverse("admin:bots_conversation_changelist"))
        if request.method == "POST" and request.POST.get("confirmed") == "yes":
            return _forgotten(request, conversation)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Forget this person"),
            "name": conversation.user_name or conversation.user_id,
            "platform": conversation.get_platform_display(),
            "remains": forgetting.remains(),
            "back": reverse("admin:bots_conversation_change", args=[conversation.pk]),
        }
        return TemplateResponse(request, "bots/forget_person.html", context)


def _forgotten(request: HttpRequest, conversation: Conversation) -> HttpResponse:
    try:
        done = forgetting.forget(conversation.platform, conversation.user_id)
    except StillAnswering as error:
        messages.warning(request, str(error))
        return HttpResponseRedirect(reverse("admin:bots_conversation_change", args=[conversation.pk]))
    text = _(
        "Forgotten. Messages: %(messages)d, answers: %(answers)d, files: %(files)d, conversations: %(conversations)d."
    )
    messages.success(request, text % asdict(done))
    return HttpResponseRedirect(reverse("admin:bots_conversation_changelist"))


def transcript(conversation: Conversation, before: str) -> dict[str, Any]:
    """The newest messages, or those older than the message ``before``, in the order in which they were said."""
    rows = conversation.messages.filter(is_current=True).select_related("reply_to").defer("session_url")
    oldest = conversation.messages.filter(pk=before).first() if _is_uuid(before) else None
    if oldest:
        rows = rows.filter(received_at__lt=oldest.received_at)
    found = list(rows.order_by("-received_at", "-id")[: MOST_SHOWN + 1])
    turns = [_turn(row) for row in reversed(found[:MOST_SHOWN])]
    return {"turns": turns, "older_than": found[MOST_SHOWN - 1].pk if len(found) > MOST_SHOWN else None}


def _turn(row: Message) -> dict[str, Any]:
    first, total = row.timings.get("first_token"), row.timings.get("total")
    return {
        "row": row,
        "is_bot": row.role == Message.Role.ASSISTANT,
        "error": error_of(row),
        "is_settled_well": row.status == Message.Status.DELIVERED,
        "attachments": len(row.details.get("attachments", [])),
        "first_token": in_words(first) if first is not None else "",
        "total": in_words(total) if total is not None else "",
    }


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False
