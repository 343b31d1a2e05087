"""How the resources are changed: audited, and what the database forbids is a 409 that says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.models import Count, OuterRef, ProtectedError, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException

from clawdbot_site.security.teams import TeamScoped, own_team
from monitoring.api import AuditedModelViewSet

READ_AND_WRITE_BOTS = {"read": "bots:read", "write": "bots:write"}


class Conflict(APIException):
    status_code = 409
    default_code = "conflict"
    default_detail = _("This contradicts what is stored.")


class ResourceViewSet(TeamScoped, AuditedModelViewSet):
    """A resource whose answers to a change show the row as a later read does. What other teams own is not there."""

    ordering = ("-created_at", "-id")

    def perform_create(self, serializer: Any, **values: Any) -> None:
        if "team" in serializer.fields and "team" not in serializer.validated_data:
            values["team_id"] = own_team(self.request.auth)
        with conflicts_in_words():
            super().perform_create(serializer, **values)
        self._read_again(serializer)

    def perform_update(self, serializer: Any, **values: Any) -> None:
        with conflicts_in_words():
            super().perform_update(serializer, **values)
        self._read_again(serializer)

    def perform_destroy(self, instance: models.Model) -> None:
        with conflicts_in_words():
            super().perform_destroy(instance)

    def _read_again(self, serializer: Any) -> None:
        serializer.instance = self.get_queryset().get(pk=serializer.instance.pk)


@contextmanager
def conflicts_in_words() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except ProtectedError as error:
        users = sorted(f"{row._meta.verbose_name} {row}" for row in error.protected_objects)
        raise Conflict(_("Still in use by: %(users)s.") % {"users": ", ".join(users[:5])}) from None
    except IntegrityError:
        raise Conflict(_("Somebody changed the same thing just now. Read it again, then repeat the change.")) from None


def count_of(model: type[models.Model], field: str, **only: object) -> Coalesce:
    """How many rows of ``model`` point here by ``field``, as a column: one query for a whole list."""
    rows = model._default_manager.filter(**{field: OuterRef("pk")}, **only).order_by().values(field)
    return Coalesce(Subquery(rows.annotate(n=Count("pk")).values("n")), 0)
