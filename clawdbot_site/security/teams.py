"""Teams: who sees which bots and apps, and all that hangs on them (rule A8).

A bot, a credential or a group robot may belong to a team. People see what belongs to their teams and what belongs to
none; owners and auditors see everything, and so do API clients without a team. A model says in ``team_paths`` how its
rows lead to a team; every query of a person or program goes through ``visible``, so that what others own is simply not
there: not listed, not counted, not chosen in a form, 404 by its address.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar
from uuid import UUID

from django.db.models import Q, QuerySet

from clawdbot_site.security.models import Team, User
from clawdbot_site.security.principals import ClientPrincipal, Principal
from clawdbot_site.security.roles import Role, is_powerful, roles_of

Rows = TypeVar("Rows", bound=QuerySet[Any])
SEES_EVERYTHING: Final = None
NO_TEAM: Final[frozenset[UUID]] = frozenset()


def teams_of(caller: object) -> frozenset[UUID] | None:
    """The teams of a person, client or principal, as they are now; None: everything is theirs to see."""
    if isinstance(caller, Principal):
        return teams_of(caller.user)
    if isinstance(caller, ClientPrincipal):
        return frozenset({caller.client.team_id}) if caller.client.team_id else SEES_EVERYTHING
    if not isinstance(caller, User):
        return NO_TEAM
    if is_powerful(caller) or Role.AUDITOR.value in roles_of(caller):
        return SEES_EVERYTHING
    return frozenset(Team.objects.filter(members=caller).values_list("pk", flat=True))


def visible(rows: Rows, caller: object) -> Rows:
    """Those of the rows that this caller may know of. Models without ``team_paths`` are everybody's."""
    paths: tuple[str, ...] = getattr(rows.model, "team_paths", ())
    teams = teams_of(caller) if paths else SEES_EVERYTHING
    if teams is None:
        return rows
    for path in paths:
        rows = rows.filter(Q(**{f"{path}__isnull": True}) | Q(**{f"{path}__in": teams}))
    return rows


def own_team(caller: object) -> UUID | None:
    """Whose a new thing is where nobody says it: the one team of who makes it."""
    teams = teams_of(caller)
    return next(iter(teams)) if teams and len(teams) == 1 else None


class TeamScoped:
    """For REST views: the rows of their queryset that the caller may know of."""

    request: Any

    def get_queryset(self) -> Any:
        rows: QuerySet[Any] = super().get_queryset()  # type: ignore[misc]  # a mixin for generic views
        return visible(rows, getattr(self.request, "auth", None))


def without_foreign(rows: Rows, caller: object, path: str, others: QuerySet[Any]) -> Rows:
    """Rows whose many ``others`` (at ``path``) may all be known to the caller."""
    if teams_of(caller) is None:
        return rows
    return rows.exclude(**{f"{path}__in": others.exclude(pk__in=visible(others, caller).values("pk"))})
