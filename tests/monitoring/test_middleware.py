from __future__ import annotations

from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from monitoring.context import ANONYMOUS, Context, bind, current
from monitoring.metrics import ROUTE_KEY
from monitoring.middleware import ActorMiddleware


class Match:
    route = "api/v1/bots/"


def test_request_id_and_address_are_bound_when_nothing_did_before(settings):
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    seen: list[Context] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(current())
        return HttpResponse()

    headers = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "request-1"}
    ActorMiddleware(view)(RequestFactory().get("/", headers=headers))

    assert (seen[0].request_id, seen[0].address, seen[0].actor) == ("request-1", "203.0.113.9", ANONYMOUS)
    assert current() == Context()


async def test_the_bound_id_is_kept_and_the_route_named_when_under_asgi():
    seen: list[Context] = []

    async def view(request: Any) -> HttpResponse:
        seen.append(current())
        request.resolver_match = Match
        return HttpResponse()

    request: Any = AsyncRequestFactory().get("/", headers={"X-Request-Id": "forged-one"})
    request.scope[ROUTE_KEY] = []
    middleware = ActorMiddleware(view)
    with bind(request_id="request-1", address="1.1.1.1"):
        await middleware(request)

    assert iscoroutinefunction(middleware)
    assert (seen[0].request_id, seen[0].address, seen[0].request) == ("request-1", "1.1.1.1", request)
    assert request.scope[ROUTE_KEY] == ["api/v1/bots/"]
