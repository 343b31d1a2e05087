"""The admin's page of dead letters: what failed and waits for a person, to be tried again or discarded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from bots.admin import acting
from bots.admin.filters import DeadStatusFilter, DiscardedFilter, PlatformFilter
from bots.admin.message_words import moment, reason_of, said_by
from bots.models import Message
from clawdbot_site.security.team_admin import OfTeams, VisibleFilter
from clawdbot_site.security.teams import visible
from monitoring.admin import ReadOnlyModelAdmin

MOST_COUNTED = 10_000
MOST_NAMED = 5
LIST = "admin:bots_deadletter_changelist"


class DeadLetter(Message):
    """The same rows under a name of their own: who may see and change messages may do so here."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name, verbose_name_plural = _("dead letter"), _("dead letters")


class BoundedPaginator(Paginator):
    """Counts no further than anybody pages: behind that one filters."""

    @cached_property
    def count(self) -> int:
        rows = cast("QuerySet[Message]", self.object_list)
        return rows.order_by()[:MOST_COUNTED].count()


@admin.register(DeadLetter)
class DeadLetterAdmin(OfTeams, ReadOnlyModelAdmin):
    list_display = ["received", "bot", "person", "question", "reason", "todo"]
    list_display_links = ("received",)
    list_filter = [
        DiscardedFilter,
        DeadStatusFilter,
        PlatformFilter,
        ("conversation__bot", VisibleFilter),
        "received_at",
    ]
    search_fields = ["text", "sender_id", "conversation__user_name", "conversation__user_id", "external_id", "error"]
    search_help_text = _("Words of the message, person, the platform's message id, or error")
    list_select_related = ["conversation__bot"]
    ordering = ["-received_at", "-id"]
    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_before_template = "bots/dead_letters_head.html"
    actions = ("retry_chosen", "send_chosen_again", "discard_chosen", "restore_chosen")

    class Media:
        css = {"all": ["bots/messages.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).defer("session_url")

    def get_list_display(self, request: HttpRequest) -> list[str]:
        return self.list_display if acting.may_act(request) else self.list_display[:-1]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("bots.view_message")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_act_permission(self, request: HttpRequest) -> bool:
        return acting.may_act(request)

    # -- what is shown --

    @admin.display(description=_("received"), ordering="received_at")
    def received(self, letter: Message) -> SafeString:
        return moment(letter.received_at)

    @admin.display(description=_("bot"))
    def bot(self, letter: Message) -> SafeString:
        place = letter.conversation
        return format_html('{}<p class="cb-subtle">{}</p>', place.bot.name, place.get_platform_display())

    @admin.display(description=_("person"))
    def person(self, letter: Message) -> str:
        """Of a push, whom it was meant for."""
        meant_for = letter.conversation
        is_push = letter.role == Message.Role.ASSISTANT
        return meant_for.user_name or meant_for.user_id or meant_for.chat_id if is_push else said_by(letter)

    @admin.display(description=_("text"))
    def question(self, letter: Message) -> str:
        return Truncator(letter.text).chars(70) or "–"

    @admin.display(description=_("reason"), ordering="status")
    def reason(self, letter: Message) -> SafeString:
        """With the state and the number of attempts, so that a row fits on a screen."""
        tries = ngettext("%(count)d attempt", "%(count)d attempts", letter.attempts) % {"count": letter.attempts}
        head = '<p><span class="cb-badge cb-badge--{}">{}</span> <span class="cb-subtle">{}</span></p>'
        told = format_html('<p class="cb-reason" title="{0}">{0}</p>', reason_of(letter))
        return format_html(
            '<div class="cb-why">' + head + "{}</div>", letter.status, letter.get_status_display(), tries, told
        )

    @admin.display(description=_("actions"))
    def todo(self, letter: Message) -> SafeString:
        """Buttons of the list's own form: a link must not change anything."""
        again = _("Send again") if letter.status == Message.Status.UNCONFIRMED else _("Try again")
        other = ("restore", "undo", _("Put back")) if letter.discarded_at else ("discard", "delete", _("Discard"))
        buttons = [_button(letter, "retry", "replay", again), _button(letter, *other)]
        return format_html('<span class="cb-todo">{}{}</span>', *buttons)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """A message has one page."""
        return HttpResponseRedirect(reverse("admin:bots_message_change", args=[object_id]))

    # -- what is done --

    @admin.action(description=_("Try failed ones again"), permissions=["act"])
    def retry_chosen(self, request: HttpRequest, chosen: Any) -> None:
        acting.retry(request, acting.first_of(request, chosen.filter(status=Message.Status.FAILED)))

    @admin.action(description=_("Send unconfirmed ones again (may show twice)"), permissions=["act"])
    def send_chosen_again(self, request: HttpRequest, chosen: Any) -> None:
        acting.retry(request, acting.first_of(request, chosen.filter(status=Message.Status.UNCONFIRMED)))

    @admin.action(description=_("Discard"), permissions=["act"])
    def discard_chosen(self, request: HttpRequest, chosen: Any) -> HttpResponse:
        return self._ask(request, acting.first_of(request, chosen), request.get_full_path())

    @admin.action(description=_("Put discarded ones back"), permissions=["act"])
    def restore_chosen(self, request: HttpRequest, chosen: Any) -> None:
        acting.restore(request, acting.first_of(request, chosen.filter(discarded_at__isnull=False)))

    def get_urls(self) -> list[URLPattern]:
        views = {"retry": self.retry_view, "discard": self.discard_view, "restore": self.restore_view}
        return [*(self._address(name, view) for name, view in views.items()), *super().get_urls()]

    def _address(self, name: str, view: Callable[[HttpRequest], HttpResponse]) -> URLPattern:
        guarded: Any = self.admin_site.admin_view(require_POST(view))
        pattern: URLPattern = path(f"{name}/", guarded, name=f"bots_deadletter_{name}")
        return pattern

    def retry_view(self, request: HttpRequest) -> HttpResponse:
        acting.retry(request, _chosen(request))
        return HttpResponseRedirect(_back(request))

    def discard_view(self, request: HttpRequest) -> HttpResponse:
        """Asks once."""
        rows = _chosen(request)
        if "confirmed" not in request.POST:
            return self._ask(request, rows, _back(request))
        acting.discard(request, rows, f"{reverse(LIST)}?discarded=yes")
        return HttpResponseRedirect(_back(request))

    def restore_view(self, request: HttpRequest) -> HttpResponse:
        acting.restore(request, _chosen(request))
        return HttpResponseRedirect(_back(request))

    def _ask(self, request: HttpRequest, rows: list[Message], back: str) -> HttpResponse:
        shown = {"title": _("Discard dead letters?"), "rows": rows, "named": rows[:MOST_NAMED], "back": back}
        context = {**self.admin_site.each_context(request), **shown, "more": len(rows) - MOST_NAMED}
        return TemplateResponse(request, "bots/discard.html", context)


def _button(letter: Message, name: str, icon: str, title: Any) -> SafeString:
    look = '<button class="cb-link" name="ids" value="{}" formaction="{}" title="{}" aria-label="{}">{}</button>'
    drawn = format_html('<span class="material-symbols-outlined" aria-hidden="true">{}</span>', icon)
    label = f"{title}: {Truncator(letter.text).chars(30)}"
    return format_html(look, letter.pk, reverse(f"admin:bots_deadletter_{name}"), title, label, drawn)


def _chosen(request: HttpRequest) -> list[Message]:
    """The messages whose ids were sent. Raises PermissionDenied, and Http404 where an id is none."""
    if not acting.may_act(request):
        raise PermissionDenied
    try:
        ids = [UUID(text) for text in request.POST.getlist("ids")]
    except ValueError:
        raise Http404 from None
    return acting.first_of(request, visible(Message.objects.filter(pk__in=ids), request.user))


def _back(request: HttpRequest) -> str:
    """Where the person came from, never another site."""
    page = request.POST.get("back", "")
    is_ours = url_has_allowed_host_and_scheme(
        page, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return page if is_ours else reverse(LIST)
