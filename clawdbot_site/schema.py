"""The OpenAPI schema says how every call can be refused, not only how it succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers
from rest_framework.permissions import AllowAny

WITH_BODY = {"POST", "PUT", "PATCH"}
REASONS = {
    "400": "Something in the request is wrong; the message says what.",
    "401": "Nobody is signed in, or the token or key is not valid.",
    "403": "The scope is missing, or the address is not let in.",
    "404": "There is no such thing here, or you may not see it.",
    "406": "Answers come in JSON.",
    "409": "It contradicts what is stored; the message says what.",
    "413": "The request is too large.",
    "415": "The body is not JSON.",
    "429": "Too many requests; `Retry-After` says how long to wait.",
    "502": "The model gave no answer; the message is fit for the person who asked.",
    "503": "It could not be stored just now; send it again.",
    "504": "There was no answer in time.",
}


class ErrorDetailSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField(help_text="What to do about it, for people.")
    fields = serializers.DictField(required=False, help_text="What is wrong with which field.")  # type: ignore[assignment]  # the name is public
    request_id = serializers.CharField(allow_blank=True, help_text="Find it in the logs by this.")


class ErrorSerializer(serializers.Serializer[Any]):
    error = ErrorDetailSerializer()


class SchemaWithErrors(AutoSchema):
    """Adds the refusals that every view shares. What a view names itself stays.

    A view may have ``error_serializer``, where its errors have another shape, and ``more_errors``, codes of its own.
    """

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        shape = getattr(self.view, "error_serializer", ErrorSerializer)
        for code in sorted({*self._refusals(), *getattr(self.view, "more_errors", ())}):
            described = (bodies.get(code) or {}).get("description") or REASONS.get(code, "")
            if "content" not in bodies.get(code, {}):
                response = OpenApiResponse(shape, description=described)
                bodies[code] = self._get_response_for_code(response, code, ["application/json"], direction)  # type: ignore[no-untyped-call]
        return dict(sorted(bodies.items()))

    def _refusals(self) -> Iterator[str]:
        yield from ("400", "403", "404", "406")  # 404: an unknown cursor too
        if not self._is_open():
            yield "401"
        if self.method in WITH_BODY:
            yield from ("413", "415")
        if self.method != "GET":
            yield "409"

    def _is_open(self) -> bool:
        return AllowAny in getattr(self.view, "permission_classes", ())
