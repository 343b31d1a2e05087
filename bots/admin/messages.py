"""The admin of messages: how far each answer is, why one failed, and another try by hand."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from bots import retrying
from bots.admin import acting, timings
from bots.admin.filters import FeedbackFilter, PlatformFilter
from bots.admin.message_panel import delivery_steps, panel
from bots.admin.message_words import COLOURS, error_of, moment, said_by
from bots.models import Message
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from monitoring import audit
from monitoring.admin import ReadOnlyModelAdmin
from monitoring.tracing import ids

Status = Message.Status


@admin.register(Message)
class MessageAdmin(OfTeams, ReadOnlyModelAdmin):
    list_display = ["received", "state", "said_by", "bot", "excerpt", "took", "trouble"]
    list_display_links = ("received",)
    list_filter = [
        "status",
        "role",
        FeedbackFilter,
        PlatformFilter,
        ("conversation__bot", VisibleFilter),
        "received_at",
    ]
    search_fields = ["text", "sender_id", "conversation__user_name", "conversation__user_id", "external_id", "error"]
    search_help_text = _("Words of the message, person, the platform's message id, or error")
    list_select_related = ["conversation__bot", "reply_to"]
    date_hierarchy = "received_at"
    show_full_result_count = False
    list_per_page = 50
    actions = ("retry", "send_again")
    change_form_outer_before_template = "bots/message_panel.html"
    fieldsets = [
        (
            None,
            {"fields": ["said_by", "text", "files", "answer", "written_by", "feedback", "bot", "conversation_link"]},
        ),
        (
            _("Progress"),
            {
                "fields": [
                    "stages",
                    "received_at",
                    "answered_at",
                    "delivered_at",
                    "attempts",
                    "next_attempt_at",
                    "last_trouble",
                    "steps",
                ]
            },
        ),
        (
            _("Details"),
            {
                "classes": ["collapse"],
                "fields": [
                    "platform",
                    "external_id",
                    "sender_id",
                    "finish_reason",
                    "tokens",
                    "trace",
                    "question",
                    "details",
                ],
            },
        ),
    ]

    class Media:
        css = {"all": ["bots/messages.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """The address to which DingTalk wants the reply is not even read."""
        return super().get_queryset(request).defer("session_url")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return flatten_fieldsets(self.fieldsets)  # type: ignore[arg-type]  # a lazy title is fine

    # -- what is shown --

    @admin.display(description=_("received"), ordering="received_at")
    def received(self, message: Message) -> SafeString:
        return moment(message.received_at)

    @display(description=_("status"), label=COLOURS, ordering="status")
    def state(self, message: Message) -> tuple[str, str]:
        return message.status, message.get_status_display()

    @admin.display(description=_("from"), ordering="role")
    def said_by(self, message: Message) -> str:
        return said_by(message)

    @admin.display(description=_("bot"), ordering="conversation__bot__name")
    def bot(self, message: Message) -> str:
        return message.conversation.bot.name

    @admin.display(description=_("text"))
    def excerpt(self, message: Message) -> str:
        return Truncator(message.text).chars(70) or "–"

    @admin.display(description=_("took"))
    def took(self, message: Message) -> SafeString | str:
        return timings.bar(message.timings)

    @admin.display(description=_("error"))
    def trouble(self, message: Message) -> SafeString | str:
        text = error_of(message)
        return format_html('<span class="cb-clip cb-error" title="{0}">{0}</span>', text) if text else "–"

    @admin.display(description=_("times"))
    def stages(self, message: Message) -> SafeString | str:
        return timings.figures(message.timings)

    @admin.display(description=_("last trouble"))
    def last_trouble(self, message: Message) -> str:
        return str(message.details.get("last_trouble") or "–")

    @admin.display(description=_("answer"))
    def answer(self, message: Message) -> str:
        reply = retrying.current_reply(message)
        return reply.text if reply else "–"

    @admin.display(description=_("files"))
    def files(self, message: Message) -> str:
        """What came with it, and what was no use."""
        rows = [(row.name or str(row.get_kind_display()), row.problem) for row in message.files.defer("text", "image")]
        return ", ".join(f"{name} ({problem})" if problem else name for name, problem in rows) or "–"

    @admin.display(description=_("feedback"))
    def feedback(self, message: Message) -> str:
        """Of a question, that of its current answer."""
        reply = message if message.role == Message.Role.ASSISTANT else retrying.current_reply(message)
        given = reply.feedback.order_by("created_at", "id") if reply else ()
        return ", ".join(f"{one.user_id}: {one.get_vote_display()}" for one in given) or "–"

    @admin.display(description=_("written by"))
    def written_by(self, message: Message) -> str:
        """The model, and which one failed before it."""
        reply = message if message.role == Message.Role.ASSISTANT else retrying.current_reply(message)
        details = reply.details if reply else {}
        failed = details.get("fallback_from")
        if not failed:
            return details.get("model") or "–"
        words = _("%(model)s, because %(first)s failed: %(reason)s")
        return str(words) % {"model": details["model"], "first": failed["model"], "reason": failed["reason"]}

    @admin.display(description=_("delivery steps"))
    def steps(self, message: Message) -> SafeString | str:
        return delivery_steps(message)

    @admin.display(description=_("tokens"))
    def tokens(self, message: Message) -> str:
        return f"{message.prompt_tokens} → {message.completion_tokens}"

    @admin.display(description=_("trace"))
    def trace(self, message: Message) -> SafeString | str:
        """Under which receivers of traces know the question; with a link where TRACE_URL says where they are shown."""
        if not settings.TRACES:
            return "–"
        row = message.reply_to or message
        trace_id = ids.trace_id(row.pk, str(row.details.get("traceparent", "")))
        page = settings.TRACE_URL.replace("{trace_id}", trace_id)
        link = '<a class="cb-link" href="{}" rel="noreferrer">{}</a>'
        return format_html(link, page, trace_id) if page else trace_id

    @admin.display(description=_("conversation"))
    def conversation_link(self, message: Message) -> SafeString:
        page = reverse("admin:bots_conversation_change", args=[message.conversation_id])
        return format_html('<a class="cb-link" href="{}#m-{}">{}</a>', page, message.pk, message.conversation)

    @admin.display(description=_("answers"))
    def question(self, message: Message) -> SafeString | str:
        if message.reply_to is None:
            return "–"
        page = reverse("admin:bots_message_change", args=[message.reply_to_id])
        return format_html('<a class="cb-link" href="{}">{}</a>', page, Truncator(message.reply_to.text).chars(70))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        message = self.get_object(request, object_id)
        if message is not None:
            audit.record_read("message.read", target=message, target_label=f"{message.role} message")
            extra_context = {**(extra_context or {}), **panel(request, message)}
        return super().change_view(request, object_id, form_url, extra_context)

    # -- trying again --

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return acting.may_act(request)

    @admin.action(description=_("Try failed ones again"), permissions=["retry"])
    def retry(self, request: HttpRequest, chosen: Any) -> None:
        acting.retry(request, acting.first_of(request, chosen.filter(status=Status.FAILED)))

    @admin.action(description=_("Send unconfirmed ones again (may show twice)"), permissions=["retry"])
    def send_again(self, request: HttpRequest, chosen: Any) -> None:
        acting.retry(request, acting.first_of(request, chosen.filter(status=Status.UNCONFIRMED)))
