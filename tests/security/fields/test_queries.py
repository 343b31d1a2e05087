"""Rule E5 on a model: no secret becomes part of a query, and none is compared in one."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from clawdbot_site.security.fields import Sealed

from .keepsakes import CANARY, Keepsake, Locket, stored


@pytest.mark.parametrize(
    "query",
    [
        lambda row: Keepsake.objects.update(secret=CANARY),
        lambda row: Keepsake.objects.update(secret=CANARY.encode()),
        lambda row: Keepsake.objects.update(secret=Value(CANARY)),
        lambda row: Keepsake.objects.update(secret=F("second")),
        lambda row: Keepsake.objects.update(secret=F("name")),
        lambda row: Keepsake.objects.update(secret=Concat("name", Value(CANARY))),
        lambda row: Keepsake.objects.update(secret=None),
        lambda row: Keepsake.objects.bulk_update([row], ["secret"]),
        lambda row: Keepsake.objects.bulk_create(
            [Keepsake(name=row.name, secret=CANARY)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["secret"],
        ),
        lambda row: Keepsake.objects.filter(secret=CANARY).count(),
        lambda row: Keepsake.objects.filter(secret=CANARY.encode()).count(),
        lambda row: Keepsake.objects.filter(secret=Value(CANARY)).count(),
        lambda row: Keepsake.objects.filter(secret=F("second")).count(),
        lambda row: Keepsake.objects.filter(secret__in=[CANARY]).count(),
        lambda row: Keepsake.objects.exclude(secret__contains=CANARY).count(),
        lambda row: Keepsake.objects.filter(secret__startswith=CANARY).count(),
        lambda row: Locket.objects.filter(keepsake__secret=CANARY).count(),
        lambda row: Keepsake.objects.get_or_create(secret=CANARY),
    ],
)
@pytest.mark.rule("E5")
def test_query_with_plaintext_is_refused(keepsake, query):
    before = stored(keepsake)
    keepsake.secret = "changed"

    with pytest.raises(TypeError, match=r"secret.*(lookup_hash)") as caught, transaction.atomic():
        query(keepsake)

    assert CANARY not in str(caught.value)
    assert stored(keepsake) == before
    assert Keepsake.objects.count() == 1


@pytest.mark.rule("E5")
def test_values_are_opaque(keepsake):
    rows = [*Keepsake.objects.values_list("secret", flat=True), Keepsake.objects.values("secret").get()["secret"]]

    for value in rows:
        assert isinstance(value, Sealed)
        assert {repr(value), str(value), f"{value}"} == {"Sealed()"}
