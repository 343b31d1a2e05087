"""The start page: what to do next, how the bots are doing, and what needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bots.admin import curves, figures
from bots.admin.timings import in_words
from bots.models import Bot, Endpoint, Message
from bots.models.conversation import MessageQuerySet
from clawdbot_site.security.teams import visible
from inference.models import LanguageModel
from integrations.models import PlatformCredential
from monitoring.alerting import unwritten
from monitoring.models import Alert

Status = Message.Status
DEMO = "demo"
CHART_HEIGHT = 100
MOST_ALERTS = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do on the way to a bot that people can reach."""

    title: Any
    text: Any
    link: str
    is_done: bool


@dataclass(frozen=True, slots=True)
class Card:
    title: Any
    value: str
    note: Any = ""
    link: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour of the chart; heights in its own units, from the bottom."""

    x: float
    height: float
    lost_height: float
    label: str


def add_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback. Numbers are for who may read messages; everybody else gets the way to the playground."""
    context["is_embedded"] = settings.EMBEDDED
    context["asks_no_second_factor"] = not settings.MFA_REQUIRED_ROLES
    if request.user.has_perm("bots.view_message"):
        shown = visible(Message.objects.all(), request.user), visible(Bot.objects.all(), request.user)
        context |= _numbers(*shown, timezone.now())
    if request.user.has_perm("bots.add_endpoint"):
        context["steps"] = _steps(visible(Bot.objects.all(), request.user))
    if request.user.has_perm("monitoring.view_alert"):
        context["open_alerts"] = list(Alert.objects.open().order_by("severity", "-opened_at")[:MOST_ALERTS])
        context["open_alerts_more"] = max(0, Alert.objects.open().count() - MOST_ALERTS)
        context["unwritten_alerts"] = unwritten.found()
    return context


def messages_page(**filters: Any) -> str:
    return f"{reverse('admin:bots_message_changelist')}?{urlencode(filters)}"


# -- what to do next --


def _steps(bots: QuerySet[Bot]) -> list[Step]:
    """Nothing when a platform has already spoken to a bot: then it works."""
    endpoints = list(Endpoint.objects.order_by("created_at").values_list("last_event_at", flat=True))
    if any(endpoints):
        return []
    bot = bots.filter(is_enabled=True).order_by("created_at").first()
    talked = Message.objects.filter(role=Message.Role.USER, platform="web").exists()
    playground = reverse("playground-chat", args=[bot.slug]) if bot else reverse("playground")
    return [
        Step(_("Talk to a bot"), _("One is ready: see in the playground how it answers."), playground, talked),
        Step(
            _("Add a language model"),
            _("Any OpenAI-compatible service, or a folder with a model of your own."),
            reverse("admin:inference_languagemodel_add"),
            LanguageModel.objects.exclude(name=DEMO).exists(),
        ),
        Step(
            _("Add a platform credential"),
            _("App ID and secrets of your app in the Feishu or DingTalk console."),
            reverse("admin:integrations_platformcredential_add"),
            PlatformCredential.objects.exists(),
        ),
        Step(
            _("Join both by an endpoint"),
            _("Then follow the steps on its page, and write to your bot in the chat."),
            reverse("admin:bots_endpoint_add"),
            bool(endpoints),
        ),
    ]


# -- numbers --


def _numbers(shown: MessageQuerySet, bots: QuerySet[Bot], now: datetime) -> dict[str, Any]:
    last_day = now - timedelta(days=1)
    hours, bot_days = figures.per_hour(shown, now), figures.per_bot(shown, bots, last_day)
    tokens = Card(_("Tokens"), f"{sum(day.tokens for day in bot_days):,}", _("written by models in 24 hours"))
    return {
        "cards": [
            *_cards(figures.today(shown), figures.durations(shown, last_day)),
            *_trouble_cards(shown),
            tokens,
        ],
        "bot_days": bot_days,
        "hours": _bars(hours),
        "hours_total": sum(hour.questions for hour in hours),
        "hours_most": max(hour.questions for hour in hours),
        "hour_labels": [f"{hour.begins_at:%H:%M}" for hour in hours[::6]],
        "models": list(LanguageModel.objects.order_by("name")[: figures.MOST_BOTS]),
        "errors": figures.newest_dead_letters(shown),
        "curves": curves.curves(now),
    }


def _cards(today: figures.Today, took: figures.Durations) -> list[Card]:
    percent = today.answered_percent
    return [
        Card(_("Messages today"), f"{today.questions}", link=messages_page(role__exact="user")),
        Card(
            _("Answered"),
            "–" if percent is None else f"{percent:.0f} %",
            _("of those that came to an end today"),
            tone="" if percent is None or percent >= 95 else "warning",
        ),
        Card(_("Time to the answer"), in_words(took.median), _("median of 24 hours")),
        Card(_("Slowest answers"), in_words(took.p95), _("95 of 100 were faster")),
    ]


def _trouble_cards(shown: MessageQuerySet) -> list[Card]:
    waiting = messages_page(role__exact="user", status__in=",".join(Message.WAITING))
    return [
        Card(_("Waiting now"), f"{figures.waiting(shown)}", _("being answered, or in the queue"), waiting),
        _dead_card(shown, Status.FAILED, _("Failed"), _("can be tried again, or discarded"), "danger"),
        _dead_card(shown, Status.UNCONFIRMED, _("Unconfirmed"), _("the platform did not say"), "warning"),
    ]


def _dead_card(shown: MessageQuerySet, status: Status, title: Any, note: Any, tone: str) -> Card:
    found = figures.dead_letters(shown, status)
    link = f"{reverse('admin:bots_deadletter_changelist')}?{urlencode({'status': status.value})}"
    value = f"{found:,}+" if found == figures.MOST_COUNTED else f"{found}"
    return Card(title, value, note, link, tone if found else "")


def _bars(hours: list[figures.Hour]) -> list[Bar]:
    scale = CHART_HEIGHT / max(1, *(hour.questions for hour in hours))
    return [
        Bar(number * 10 + 1.0, hour.questions * scale, hour.lost * scale, f"{hour.begins_at:%H:%M}: {hour.questions}")
        for number, hour in enumerate(hours)
    ]
