"""The playground: talking to a bot from the admin, over the same WebSocket that integrators use."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _

from bots import web
from bots.admin.timings import in_words
from bots.models import Bot, Conversation, Message
from clawdbot_site.security.models import User
from clawdbot_site.security.roles import scopes_of
from clawdbot_site.security.teams import visible

MOST_SHOWN = 60


def choose(request: HttpRequest) -> HttpResponse:
    """The bots one can talk to."""
    _check_scope(request)
    bots = visible(Bot.objects.filter(is_enabled=True), request.user).select_related("model")
    context = {**admin.site.each_context(request), "title": _("Playground"), "bots": bots}
    return render(request, "bots/playground_list.html", context)


def talk(request: HttpRequest, slug: str) -> HttpResponse:
    _check_scope(request)
    bot = get_object_or_404(visible(Bot.objects.select_related("model"), request.user), slug=slug, is_enabled=True)
    scope_key = f"user:{request.user.pk}"
    context = {
        **admin.site.each_context(request),
        "title": bot.name,
        "bot": bot,
        "is_fullwidth": "1",
        "turns": _turns(bot, scope_key),
        "suggestions": [_("Hello"), _("What can you do?"), "你好"],
        "texts": _texts(),
    }
    return render(request, "bots/playground.html", context)


def _check_scope(request: HttpRequest) -> None:
    if not isinstance(request.user, User) or "chat" not in scopes_of(request.user):
        raise PermissionDenied


def _turns(bot: Bot, scope_key: str) -> list[dict[str, Any]]:
    """What this person and the bot said since the conversation was begun anew, oldest first."""
    conversation = Conversation.objects.filter(bot=bot, source=web.SOURCE, scope_key=scope_key).first()
    if conversation is None:
        return []
    rows = conversation.messages.filter(is_current=True).defer("session_url")
    if conversation.context_started_at:
        rows = rows.filter(received_at__gte=conversation.context_started_at)
    newest = list(rows.order_by("-received_at", "-id")[:MOST_SHOWN])
    replies = {row.reply_to_id: row for row in newest if row.reply_to_id}
    questions = [row for row in reversed(newest) if row.role == Message.Role.USER]
    return [_turn(question, replies.get(question.pk), scope_key) for question in questions]


def _turn(question: Message, reply: Message | None, scope_key: str) -> dict[str, Any]:
    return {
        "own_id": question.external_id.removeprefix(f"{scope_key}/"),
        "text": question.text,
        "is_waiting": question.status in Message.WAITING,
        "is_failed": question.status == Message.Status.FAILED,
        "answer": reply.text if reply else "",
        "first_token": in_words(question.timings.get("first_token")),
        "total": in_words(question.timings.get("total")),
        "tokens": f"{reply.prompt_tokens} → {reply.completion_tokens}" if reply else "",
    }


def _texts() -> dict[str, str]:
    """What the page's script says."""
    return {
        "connecting": _("Connecting…"),
        "online": _("Connected"),
        "offline": _("The line was lost. Trying again…"),
        "signed_out": _("Your session has ended. Sign in again."),
        "gone": _("This bot is not there any more, or you may not talk to it."),
        "first_token": _("first token"),
        "total": _("total"),
        "tokens": _("tokens"),
        "failed": _("No answer."),
        "stopped": _("Stopped."),
        "again": _("Send again"),
        "copy": _("Copy"),
        "copied": _("Copied"),
        "you": _("You"),
    }
