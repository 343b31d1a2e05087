"""The admin of messages: how far each answer is, why one failed, and another try by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.decorators import display

from bots import retrying
from bots.models import Message
from monitoring import audit
from monitoring.admin import ReadOnlyModelAdmin

Status = Message.Status
COLOURS = {
    Status.RECEIVED: "info",
    Status.ANSWERING: "info",
    Status.ANSWERED: "info",
    Status.DELIVERED: "success",
    Status.UNCONFIRMED: "warning",
    Status.FAILED: "danger",
    Status.CANCELLED: "default",
    Status.IGNORED: "default",
}
STAGES = {
    "queue": _("waited"),
    "first_token": _("first token"),
    "generate": _("generated"),
    "deliver": _("delivered"),
    "total": _("in all"),
}


def in_words(milliseconds: float | None) -> str:
    """A duration as people read it: 240 ms, 1.4 s, 2 min 5 s."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else str(timedelta(seconds=minutes * 60 + seconds))


def moment(at: datetime) -> SafeString:
    """A time as lists show it: short, sortable by eye, in one line."""
    return format_html('<span class="cb-moment">{}</span>', f"{timezone.localtime(at):%Y-%m-%d %H:%M}")


@admin.register(Message)
class MessageAdmin(ReadOnlyModelAdmin):
    list_display = ["received", "state", "said_by", "bot", "excerpt", "took", "trouble"]
    list_display_links = ("received",)
    list_filter = ["status", "role", "platform", "conversation__bot", "received_at"]
    search_fields = ["text", "sender_id", "conversation__user_name", "conversation__user_id", "external_id", "error"]
    search_help_text = _("Words of the message, person, the platform's message id, or error")
    list_select_related = ["conversation__bot", "reply_to"]
    date_hierarchy = "received_at"
    show_full_result_count = False
    list_per_page = 50
    actions = ["retry", "send_again"]  # type: ignore[assignment]  # the base class has none
    change_form_outer_before_template = "bots/message_panel.html"
    fieldsets = [
        (None, {"fields": ["said_by", "text", "bot", "conversation_link"]}),
        (
            _("Progress"),
            {"fields": ["received_at", "answered_at", "delivered_at", "attempts", "next_attempt_at", "stages"]},
        ),
        (
            _("Details"),
            {
                "classes": ["collapse"],
                "fields": ["platform", "external_id", "sender_id", "finish_reason", "tokens", "question", "details"],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """The address to which DingTalk wants the reply is not even read."""
        return super().get_queryset(request).defer("session_url")  # type: ignore[no-any-return]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for _title, options in self.fieldsets for name in options["fields"]]

    # -- what is shown --

    @admin.display(description=_("received"), ordering="received_at")
    def received(self, message: Message) -> SafeString:
        return moment(message.received_at)

    @display(description=_("status"), label=COLOURS, ordering="status")  # type: ignore[untyped-decorator]
    def state(self, message: Message) -> tuple[str, str]:
        return message.status, message.get_status_display()

    @admin.display(description=_("from"), ordering="role")
    def said_by(self, message: Message) -> str:
        if message.role == Message.Role.ASSISTANT:
            return str(_("bot"))
        return message.conversation.user_name or message.sender_id or str(_("person"))

    @admin.display(description=_("bot"), ordering="conversation__bot__name")
    def bot(self, message: Message) -> str:
        return message.conversation.bot.name

    @admin.display(description=_("text"))
    def excerpt(self, message: Message) -> str:
        return Truncator(message.text).chars(70) or "–"

    @admin.display(description=_("took"))
    def took(self, message: Message) -> str:
        return in_words(message.timings.get("total"))

    @admin.display(description=_("error"))
    def trouble(self, message: Message) -> SafeString | str:
        text = error_of(message)
        return format_html('<span class="cb-clip cb-error" title="{0}">{0}</span>', text) if text else "–"

    @admin.display(description=_("times"))
    def stages(self, message: Message) -> SafeString | str:
        known = [(label, in_words(message.timings[name])) for name, label in STAGES.items() if name in message.timings]
        items = format_html_join("", "<li><span>{}</span><strong>{}</strong></li>", known)
        return format_html('<ul class="cb-stages">{}</ul>', items) if known else "–"

    @admin.display(description=_("tokens"))
    def tokens(self, message: Message) -> str:
        return f"{message.prompt_tokens} → {message.completion_tokens}"

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
        shown = {"trouble": error_of(message) if message else "", "retry_text": self._retry_text(request, message)}
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, {**(extra_context or {}), **shown}
        )

    # -- trying again --

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("bots.change_message")

    def _retry_text(self, request: HttpRequest, message: Message | None) -> Any:
        if message is None or not self.has_retry_permission(request):
            return ""
        return {Status.FAILED: _("Try again"), Status.UNCONFIRMED: _("Send again")}.get(Status(message.status), "")

    def get_urls(self) -> list[URLPattern]:
        retry = self.admin_site.admin_view(require_POST(self.retry_one))
        return [path("<uuid:pk>/retry/", retry, name="bots_message_retry"), *super().get_urls()]

    def retry_one(self, request: HttpRequest, pk: str) -> HttpResponse:
        if not self.has_retry_permission(request):
            raise PermissionDenied
        message = self.get_object(request, str(pk))
        if message is None:
            raise Http404
        self._retry(request, [message])
        return HttpResponseRedirect(reverse("admin:bots_message_change", args=[pk]))

    @admin.action(description=_("Try failed ones again"), permissions=["retry"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        self._retry(request, chosen.filter(status=Status.FAILED))

    @admin.action(description=_("Send unconfirmed ones again (may show twice)"), permissions=["retry"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[Message]) -> None:
        self._retry(request, chosen.filter(status=Status.UNCONFIRMED))

    def _retry(self, request: HttpRequest, chosen: Any) -> None:
        """Question and reply may both be chosen: they are one try."""
        rows = {row.reply_to_id or row.pk: row for row in chosen}
        again = 0
        for row in rows.values():
            try:
                retrying.retry(row)
            except retrying.NotRetriable as error:
                messages.warning(request, str(error))
            else:
                again += 1
        if again:
            text = ngettext("%(count)d message is tried again.", "%(count)d messages are tried again.", again)
            messages.success(request, text % {"count": again})
        elif not rows:
            messages.warning(request, _("None of these can be tried again that way."))


def error_of(message: Message) -> str:
    """Why it failed, or what last went wrong on its way; a reply tells its question's reason."""
    if message.error:
        return message.error
    if message.status in retrying.RETRIABLE and message.reply_to:
        return message.reply_to.error
    return str(message.details.get("last_trouble", "")) if message.status in Message.WAITING else ""
