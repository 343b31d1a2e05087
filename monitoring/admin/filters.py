"""Filters of the audit log: words to type, days to choose. None of them asks the table which values occur."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import TextFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from monitoring import selecting


class WordsFilter(TextFilter):
    """A field to type into; the title alone is its label."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        form = self.form_class(name=self.parameter_name, label=self.title, data={self.parameter_name: self.value()})
        yield {"form": form}


class ActionFilter(WordsFilter):
    title, parameter_name = _("action (bot.created, or bot. for all that begins so)"), "action"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return selecting.by_action(queryset, self.value()) if self.value() else queryset


class ActorFilter(WordsFilter):
    title, parameter_name = _("person or client (name or id)"), "actor"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return selecting.by_actor(queryset, self.value()) if self.value() else queryset


class TargetFilter(WordsFilter):
    title, parameter_name = _("target (name, id or kind)"), "target"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return selecting.by_target(queryset, self.value()) if self.value() else queryset


class AddressFilter(WordsFilter):
    title, parameter_name = _("address"), "address"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(address=self.value()) if self.value() else queryset


class DayForm(forms.Form):
    def __init__(self, name: str, label: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        widget = UnfoldAdminTextInputWidget(attrs={"type": "date"})
        self.fields[name] = forms.CharField(label=label, required=False, widget=widget)


class DayFilter(WordsFilter):
    form_class = DayForm

    def midnight(self, days: int = 0) -> datetime | None:
        """When the chosen day begins (or one so many days later), in the site's time zone."""
        if not self.value():
            return None
        try:
            day = parse_date(self.value())
        except ValueError:
            day = None
        if day is None:
            raise IncorrectLookupParameters(self.value())
        return timezone.make_aware(datetime.combine(day + timedelta(days=days), time.min))


class SinceFilter(DayFilter):
    title, parameter_name = _("first day"), "since"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        begin = self.midnight()
        return queryset.filter(created_at__gte=begin) if begin else queryset


class UntilFilter(DayFilter):
    title, parameter_name = _("last day"), "until"

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        end = self.midnight(days=1)
        return queryset.filter(created_at__lt=end) if end else queryset
