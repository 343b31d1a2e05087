"""Tools that an OpenAI client brings along, and what was called and came of it before, read into values.

The bot does nothing with them but tell the model (rule L7): what the model calls goes back to the client.
"""

from __future__ import annotations

import json
import re
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from bots.text import storable
from clawdbot_site.security.parsing import TOO_DEEP, BoundedJSONParser, is_deeper

MOST_TOOLS = 128
MOST_CHARACTERS = 256 * 1024  # of all tools together
CHOICES = ("auto", "none", "required")
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}", re.ASCII)


class IdField(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=200, **options)


class FunctionCallSerializer(serializers.Serializer[Any]):
    name = serializers.RegexField(_NAME.pattern + r"\Z", max_length=64)
    arguments = serializers.CharField(allow_blank=True, trim_whitespace=False, help_text="A JSON object as text.")

    class Meta:
        ref_name = "OpenAIFunctionCall"

    def validate_arguments(self, given: str) -> str:
        try:
            value = json.loads(given or "{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise serializers.ValidationError(_("Send one JSON object, as text."))
        if is_deeper(value, BoundedJSONParser.most_depth):  # chat templates write it by recursion
            raise serializers.ValidationError(TOO_DEEP)
        return storable(given or "{}")


class ToolCallSerializer(serializers.Serializer[Any]):
    id = IdField()
    type = serializers.ChoiceField(choices=["function"], default="function")
    function = FunctionCallSerializer()

    class Meta:
        ref_name = "OpenAIToolCall"


@extend_schema_field(OpenApiTypes.OBJECT)
class ToolField(serializers.Field[dict[str, Any], Any, Any, Any]):
    """``{"type": "function", "function": {"name", "description", "parameters", "strict"}}``."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        function = data.get("function") if isinstance(data, dict) and data.get("type") == "function" else None
        if not isinstance(function, dict):
            raise serializers.ValidationError(_("Only tools of the type `function` can be offered."))
        name, schema = function.get("name"), function.get("parameters")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise serializers.ValidationError(_("A function needs a `name` of letters, digits, `_` and `-`."))
        if schema is not None and not isinstance(schema, dict):
            raise serializers.ValidationError(_("The `parameters` of a function are a JSON schema."))
        tool: dict[str, Any] = _storable({"type": "function", "function": function})
        return tool

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


@extend_schema_field(OpenApiTypes.ANY)
class ToolChoiceField(serializers.Field[Any, Any, Any, Any]):
    """``auto``, ``none``, ``required``, or one function by its name."""

    def to_internal_value(self, data: Any) -> Any:
        if data in CHOICES:
            return data
        function = data.get("function") if isinstance(data, dict) and data.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise serializers.ValidationError(_("Send `auto`, `none`, `required` or one function of `tools`."))
        return {"type": "function", "function": {"name": function["name"]}}

    def to_representation(self, value: Any) -> Any:
        return value


class ToolsSerializer(serializers.Serializer[Any]):
    """The fields of a request that are about tools."""

    tools = serializers.ListField(child=ToolField(), required=False, allow_null=True, max_length=MOST_TOOLS)
    tool_choice = ToolChoiceField(required=False, allow_null=True)

    def validate_tools(self, given: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        if len(json.dumps(given, ensure_ascii=False)) > MOST_CHARACTERS:
            raise serializers.ValidationError(_("The tools are too long: at most 256 KiB together."))
        return given

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        choice = given.get("tool_choice")
        names = [tool["function"]["name"] for tool in given.get("tools") or ()]
        wanted = choice["function"]["name"] if isinstance(choice, dict) else None
        if (wanted is not None and wanted not in names) or (choice == "required" and not names):
            raise serializers.ValidationError({"tool_choice": _("The chosen function is not among the `tools`.")})
        return given

    def offered(self) -> dict[str, Any]:
        """As it is kept with the question; nothing where no tools came."""
        tools, choice = self.validated_data.get("tools"), self.validated_data.get("tool_choice")
        return {"tools": tools, "tool_choice": choice} if tools else {}


def called(message: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a message's calls, or of the call that it answers."""
    calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls") or ()]
    kept: dict[str, Any] = {"calls": calls} if calls else {}
    return kept | ({"call_id": message["tool_call_id"]} if message.get("tool_call_id") else {})


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(name)): _storable(inner) for name, inner in value.items()}
    return [_storable(inner) for inner in value] if isinstance(value, list) else value
