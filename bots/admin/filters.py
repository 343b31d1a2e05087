"""Filters of the lists of messages. Their choices are known, so none of them asks the table which values occur."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from bots.models import Conversation, Feedback, Message


class PlatformFilter(admin.SimpleListFilter):
    title, parameter_name = _("platform"), "platform"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(Conversation.Platform.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(platform=self.value()) if self.value() else queryset


class FeedbackFilter(admin.SimpleListFilter):
    """Answers by what people think of them."""

    title, parameter_name = _("feedback"), "feedback"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(Feedback.Vote.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        given = Feedback.objects.filter(reply=OuterRef("pk"), vote=self.value())
        return queryset.filter(Exists(given)) if self.value() else queryset


class DeadStatusFilter(admin.SimpleListFilter):
    title, parameter_name = _("status"), "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(status.value, status.label) for status in Message.DEAD]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(status=self.value()) if self.value() else queryset


class DiscardedFilter(admin.SimpleListFilter):
    """Without a choice: those that wait for a person."""

    title, parameter_name = _("discarded"), "discarded"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Discarded"))]

    def choices(self, changelist: Any) -> Iterator[Any]:
        options: list[tuple[str | None, Any]] = [(None, _("To be looked at")), ("yes", _("Discarded"))]
        for value, title in options:
            link = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": self.value() == value, "query_string": link, "display": title}

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if self.value() == "yes":
            return queryset.filter(discarded_at__isnull=False, status__in=Message.DEAD)
        return queryset.dead_letters()
