"""What every REST list and every REST error looks like."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, JsonResponse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, pagination, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from monitoring.context import current

MESSAGES = {
    401: "Sign in: send `Authorization: Bearer <access token>` or `Authorization: Api-Key <key>`.",
    404: "There is no such thing here, or you may not see it.",
    405: "This address does not take that method.",
}


class NewestFirst(pagination.CursorPagination):
    """``{"next","previous","results"}``; a view names its ``ordering``, ending in a unique field."""

    ordering = ("-created_at", "-id")
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Any) -> int:
        wanted = request.query_params.get(self.page_size_query_param, "")
        if wanted and not (wanted.isascii() and wanted.isdecimal() and int(wanted[:9]) > 0):
            raise exceptions.ValidationError({"page_size": [_("Send a whole number above zero; 200 are the most.")]})
        return super().get_page_size(request) or self.page_size

    def get_ordering(self, request: Any, queryset: Any, view: Any) -> tuple[str, ...]:
        return tuple(getattr(view, "ordering", None) or self.ordering)


def error_body(code: str, message: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
    """The one error shape: ``{"error":{"code","message","fields"?,"request_id"}}``."""
    error: dict[str, Any] = {"code": code, "message": message, "request_id": current().request_id}
    return {"error": error | ({"fields": fields} if fields else {})}


def one_error_shape(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. Unexpected errors are not handled here: they become a 500 without internals."""
    response = exception_handler(error, context)
    if response is None:
        return None
    response.data = error_body(*_explain(error, response))
    return response


def _explain(error: Exception, response: Response) -> tuple[str, str, dict[str, Any] | None]:
    if isinstance(error, exceptions.ValidationError):
        return _explain_fields(response.data)
    code = "not_found" if isinstance(error, Http404) else "permission_denied"
    if isinstance(error, exceptions.APIException):
        codes = error.get_codes()
        code = codes if isinstance(codes, str) else "error"
    detail = response.data.get("detail") if isinstance(response.data, dict) else None
    generic = isinstance(error, Http404 | PermissionDenied | exceptions.NotAuthenticated | exceptions.NotFound)
    message = MESSAGES.get(response.status_code) if generic else None
    return code, str(message or detail or "The request was refused."), None


def _explain_fields(data: Any) -> tuple[str, str, dict[str, Any] | None]:
    if not isinstance(data, dict):
        return "invalid", " ".join(map(str, data)), None
    named = "; ".join(f"{name}: {_first(value)}" for name, value in data.items())
    return "invalid", f"Correct these fields and send it again: {named}", data


def _first(value: Any) -> str:
    while isinstance(value, list | dict) and value:
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
    return str(value)


@csrf_exempt  # else a POST to a wrong address is answered by Django's page about forms
def unknown_address(request: Any, *args: Any, **kwargs: Any) -> Any:
    """404 in the one error shape for addresses under /api/ that no view takes."""
    return JsonResponse(error_body("not_found", MESSAGES[404]), status=status.HTTP_404_NOT_FOUND)
