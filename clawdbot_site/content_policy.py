"""Scripts of the admin's look: Alpine.js evaluates expressions, so pages under /admin/, and no others, allow that."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

ADMIN = "/admin/"


class AdminScripts:
    """Middleware, inside of CSPMiddleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith(ADMIN):
            response._csp_replace = {"script-src": settings.ADMIN_SCRIPT_SOURCES}  # type: ignore[attr-defined]  # how django-csp is told
        return response
