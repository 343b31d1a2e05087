"""Filters of REST lists that refuse what they cannot read, where django-filter would show everything."""

from __future__ import annotations

from typing import Any

import django_filters
from django.utils.translation import gettext as _
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError

READABLE = {"", "true", "false", "1", "0"}


class StrictFilterBackend(DjangoFilterBackend):
    def get_filterset(self, request: Any, queryset: Any, view: Any) -> Any:
        filterset = super().get_filterset(request, queryset, view)
        wrong = [name for name in _yes_or_no(filterset) if request.query_params.get(name, "").lower() not in READABLE]
        if wrong:
            raise ValidationError({name: [_("Say true or false.")] for name in wrong})
        return filterset


def _yes_or_no(filterset: Any) -> list[str]:
    filters = filterset.filters if filterset is not None else {}
    return [name for name, one in filters.items() if isinstance(one, django_filters.BooleanFilter)]
