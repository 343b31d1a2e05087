"""What admins do with dead letters, one or many at once, and how the page tells what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from django.contrib import messages
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bots import discarding, retrying
from bots.discarding import NotDiscardable
from bots.models import Message
from bots.models.conversation import MessageQuerySet
from bots.retrying import NotRetriable

MOST_AT_ONCE = 500  # each is locked, written and audited: more would hold the page for too long


def may_act(request: HttpRequest) -> bool:
    return request.user.has_perm("bots.change_message")


def first_of(request: HttpRequest, chosen: MessageQuerySet) -> list[Message]:
    """The oldest of a selection, as many as may be done at once; says so where that leaves some out."""
    rows = list(chosen.order_by("received_at", "id").defer("session_url")[: MOST_AT_ONCE + 1])
    if len(rows) > MOST_AT_ONCE:
        text = _("Only the oldest %(most)d were taken. Do it again for the next ones.")
        messages.warning(request, text % {"most": MOST_AT_ONCE})
    return rows[:MOST_AT_ONCE]


def retry(request: HttpRequest, rows: Iterable[Message]) -> None:
    tries = {retrying.try_of(row): row for row in rows}  # question and reply, both chosen, are one
    if again := _done(request, tries.values(), retrying.retry):
        text = ngettext("%(count)d message is tried again.", "%(count)d messages are tried again.", again)
        messages.success(request, text % {"count": again})


def discard(request: HttpRequest, rows: Iterable[Message], undo_page: str) -> None:
    if gone := _done(request, _questions(rows), discarding.discard):
        text = ngettext("%(count)d dead letter was discarded.", "%(count)d dead letters were discarded.", gone)
        link = format_html('<a class="cb-link" href="{}">{}</a>', undo_page, _("Look at them, or put them back"))
        messages.success(request, format_html("{} {}", text % {"count": gone}, link))


def restore(request: HttpRequest, rows: Iterable[Message]) -> None:
    if back := _done(request, _questions(rows), discarding.restore):
        text = ngettext("%(count)d dead letter was put back.", "%(count)d dead letters were put back.", back)
        messages.success(request, text % {"count": back})


def _questions(rows: Iterable[Message]) -> Collection[Message]:
    return {row.reply_to_id or row.pk: row for row in rows}.values()


def _done(request: HttpRequest, rows: Collection[Message], act: Callable[[Message], Message]) -> int:
    """How many could be done; why others could not is said once."""
    refusals: list[str] = []
    for row in rows:
        try:
            act(row)
        except (NotRetriable, NotDiscardable) as error:
            refusals.append(str(error))
    for reason in dict.fromkeys(refusals if rows else [_("There was nothing to do: none of these fits.")]):
        messages.warning(request, reason)
    return len(rows) - len(refusals)
