"""Django's part of the request context: whose request it is, and which route took it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from monitoring.client_ip import client_ip, scope_of
from monitoring.context import Context, bind, current, request_id_from
from monitoring.metrics import name_route

GetResponse = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def ActorMiddleware(get_response: GetResponse) -> GetResponse:
    """Bind the request, so that an entry written below finds its user, even one whom DRF signs in later.

    Hops no thread. Without monitoring.context.RequestContext around it (WSGI, Django's test client) it also binds
    request id and address.
    """
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponseBase:
            with _bound(request):
                response = await cast(Awaitable[HttpResponseBase], get_response(request))
            return _named(request, response)

        return middleware

    def sync_middleware(request: HttpRequest) -> HttpResponseBase:
        with _bound(request):
            response = get_response(request)
        return _named(request, response)

    return sync_middleware


def _bound(request: HttpRequest) -> AbstractContextManager[Context]:
    if current().request_id:
        return bind(request=request)
    request_id = request_id_from(request.headers.get("X-Request-Id", ""))
    return bind(request=request, request_id=request_id, address=client_ip(scope_of(request)))


def _named(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.resolver_match:
        name_route(scope_of(request), request.resolver_match.route)
    return response
