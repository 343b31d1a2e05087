"""The admin of feedback: what people think of the answers, with question and answer beside it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from bots.admin.message_words import moment
from bots.models import Feedback
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from monitoring import audit
from monitoring.admin import ReadOnlyModelAdmin

COLOURS = {Feedback.Vote.UP: "success", Feedback.Vote.DOWN: "danger"}


@admin.register(Feedback)
class FeedbackAdmin(OfTeams, ReadOnlyModelAdmin):
    list_display = ["given", "verdict", "bot", "question", "answer", "user_id"]
    list_display_links = ("given",)
    list_filter = ["vote", ("reply__conversation__bot", VisibleFilter), "reply__conversation__platform", "created_at"]
    search_fields = ["user_id", "reply__text", "reply__reply_to__text"]
    search_help_text = _("Person, or words of the question or the answer")
    list_select_related = ["reply__conversation__bot", "reply__reply_to"]
    date_hierarchy = "created_at"
    show_full_result_count = False
    list_per_page = 50
    fields = readonly_fields = ["verdict", "user_id", "bot", "question", "answer", "created_at", "updated_at"]

    @admin.display(description=_("given"), ordering="created_at")
    def given(self, feedback: Feedback) -> SafeString:
        return moment(feedback.created_at)

    @display(description=_("vote"), label=COLOURS, ordering="vote")
    def verdict(self, feedback: Feedback) -> tuple[str, str]:
        return feedback.vote, feedback.get_vote_display()

    @admin.display(description=_("bot"), ordering="reply__conversation__bot__name")
    def bot(self, feedback: Feedback) -> str:
        return feedback.reply.conversation.bot.name

    @admin.display(description=_("question"))
    def question(self, feedback: Feedback) -> str:
        question = feedback.reply.reply_to
        return Truncator(question.text).chars(70) if question else "–"

    @admin.display(description=_("answer"))
    def answer(self, feedback: Feedback) -> SafeString:
        page = reverse("admin:bots_message_change", args=[feedback.reply_id])
        return format_html('<a class="cb-link" href="{}">{}</a>', page, Truncator(feedback.reply.text).chars(70) or "–")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        feedback = self.get_object(request, object_id)
        if feedback is not None:
            audit.record_read("message.read", target=feedback.reply, target_label="assistant message")
        return super().change_view(request, object_id, form_url, extra_context)
