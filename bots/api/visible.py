"""Fields that name other rows: only such as the caller may know of (teams, rule A8)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from clawdbot_site.security.models import Team
from clawdbot_site.security.teams import visible


class _Visible(serializers.RelatedField[Any, Any, Any]):
    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return visible(rows, getattr(self.context.get("request"), "auth", None)) if rows is not None else None


class VisibleSlug(_Visible, serializers.SlugRelatedField[Any]):
    pass


class VisibleKey(_Visible, serializers.PrimaryKeyRelatedField[Any]):
    pass


def team_field() -> VisibleSlug:
    return VisibleSlug(
        slug_field="name",
        queryset=Team.objects.all(),
        required=False,
        allow_null=True,
        help_text="The name of the team that sees it; null: everybody. Left out of a new one: the caller's only team.",
    )
