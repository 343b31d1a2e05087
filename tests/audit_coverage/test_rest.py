"""Rule U1 over REST: every call that changes something leaves an entry. Walks all addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import get_resolver

from monitoring.models import AuditLog
from tests import factories

from .calls import API, CASES, QUESTIONS, SENT, TOKENS
from .conftest import actions

pytestmark = pytest.mark.django_db


def routes(patterns: Any = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, route) of everything outside the admin that takes more than reading."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            if not route.startswith("admin/"):
                yield from routes(pattern.url_patterns, route)
        elif (view := getattr(pattern.callback, "cls", None)) is not None:
            served = getattr(pattern.callback, "actions", None) or view().allowed_methods
            for method in sorted({name.upper() for name in served} & {"POST", "PUT", "PATCH", "DELETE"}):
                yield method, route


def named(method: str, route: str) -> str:
    """As the tables name it: without the prefix and the marks of a pattern."""
    short = route.removeprefix("api/v1/") if route.startswith("api/v1/") else f"/{route}"
    return f"{method} {short.removeprefix('^').removesuffix('$')}"


@pytest.mark.rule("U1")
def test_every_address_that_changes_something_is_in_the_table():
    assert {named(*one) for one in routes()} == {*CASES, *QUESTIONS, *TOKENS, *SENT}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.rule("U1")
def test_a_change_by_rest_leaves_its_entry(rest, name):
    case = CASES[name]
    address, body = case.make()
    before = len(actions())

    answer = getattr(rest, name.partition(" ")[0].lower())(address, body)

    assert answer.status_code < 300, answer.content
    assert case.action in actions()[before:]


@pytest.mark.rule("U1")
def test_getting_changing_and_ending_tokens_leaves_entries(rest, key):
    rest.credentials()
    pair = rest.post(f"{API}auth/token/", {"api_key": key}).json()
    fresh = rest.post(f"{API}auth/token/refresh/", {"refresh": pair["refresh"]}).json()
    rest.post(f"{API}auth/token/refresh/", {"refresh": pair["refresh"]})
    again = rest.post(f"{API}auth/token/", {"api_key": key}).json()
    rest.post(f"{API}auth/token/revoke/", {"refresh": again["refresh"]})
    assert fresh

    assert [name for name in actions() if name.startswith("token.")] == [
        "token.issued",
        "token.reused",
        "token.refused",
        "token.issued",
        "token.revoked",
    ]


@pytest.mark.rule("U1")
def test_reading_an_endpoints_secret_address_leaves_an_entry(rest):
    endpoint = factories.endpoint()
    rest.get(f"{API}endpoints/{endpoint.pk}/")
    rest.get(f"{API}endpoints/")

    read = (
        AuditLog.objects.filter(action="endpoint.address_read").order_by("id").values_list("target_id", "target_label")
    )
    assert list(read) == [(str(endpoint.pk), str(endpoint)), ("", "list")]
