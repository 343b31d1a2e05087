"""What OpenAI's clients send, read into values. Fields that we do not know are passed over, as other servers do."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from bots.api.openai_tools import MOST_TOOLS, IdField, ToolCallSerializer, ToolsSerializer, called
from bots.text import storable

MOST_MESSAGES = 500
MOST_CHARACTERS = 1024 * 1024
MOST_BYTES = 8 * 1024 * 1024  # of the whole request: pictures come in it
LONGEST_USER = 100
DATA_URL = re.compile(r"data:image/(png|jpeg|gif|webp);base64,(.+)", re.ASCII | re.DOTALL)
SAMPLING = ("temperature", "top_p", "max_tokens", "stop", "seed")


@dataclass(frozen=True, slots=True)
class Content:
    """A message's text, and its pictures in base64."""

    text: str
    images: tuple[str, ...] = field(default=(), repr=False)


@extend_schema_field(OpenApiTypes.ANY)
class ContentField(serializers.Field[Content, Any, Any, Any]):
    """A string, or a list of ``text`` and ``image_url`` parts."""

    def to_internal_value(self, data: Any) -> Content:
        if isinstance(data, str):
            return Content(storable(data))
        if not isinstance(data, list) or not all(isinstance(part, dict) for part in data):
            raise serializers.ValidationError(_("Send a string, or a list of parts."))
        texts = [_text(part) for part in data if part.get("type") == "text"]
        images = [_image(part) for part in data if part.get("type") == "image_url"]
        if len(texts) + len(images) < len(data):
            raise serializers.ValidationError(_("Only parts of the types `text` and `image_url` can be read."))
        return Content("\n".join(texts), tuple(images))

    def to_representation(self, value: Content) -> str:
        return value.text


def _text(part: dict[str, Any]) -> str:
    if not isinstance(part.get("text"), str):
        raise serializers.ValidationError(_("A text part needs a `text`."))
    return storable(part["text"])


def _image(part: dict[str, Any]) -> str:
    given = part.get("image_url")
    found = DATA_URL.fullmatch(str(given.get("url") if isinstance(given, dict) else given))
    if not found:
        raise serializers.ValidationError(_("Send pictures as data: URLs (PNG, JPEG, GIF, WebP); none are fetched."))
    try:
        base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise serializers.ValidationError(_("This picture is not valid base64.")) from None
    return found[2]


@extend_schema_field(OpenApiTypes.ANY)
class StringsField(serializers.Field[list[str], Any, Any, Any]):
    """A string or a list of up to ``most`` strings."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(**options)
        self.most = most

    def to_internal_value(self, data: Any) -> list[str]:
        strings = [data] if isinstance(data, str) else data
        if not isinstance(strings, list) or not all(isinstance(one, str) for one in strings):
            raise serializers.ValidationError(_("Send a string, or a list of strings."))
        if len(strings) > self.most:
            raise serializers.ValidationError(_("Send at most %(most)s.") % {"most": self.most})
        return [storable(one) for one in strings]

    def to_representation(self, value: list[str]) -> list[str]:
        return value


class StreamOptionsSerializer(serializers.Serializer[Any]):
    include_usage = serializers.BooleanField(default=False)


class CompletionSerializer(serializers.Serializer[Any]):
    """What both kinds of completion take."""

    model = serializers.CharField(max_length=100, help_text="A bot's slug.")
    temperature = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=2)
    top_p = serializers.FloatField(required=False, allow_null=True, min_value=0, max_value=1)
    max_tokens = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**31 - 1)
    stop = StringsField(16, required=False, allow_null=True)
    seed = serializers.IntegerField(required=False, allow_null=True, min_value=-(2**63), max_value=2**63 - 1)
    n = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1)
    stream = serializers.BooleanField(required=False, allow_null=True, default=False)
    stream_options = StreamOptionsSerializer(required=False, allow_null=True)
    user = serializers.CharField(required=False, allow_null=True, allow_blank=True, max_length=LONGEST_USER)

    def sampling(self) -> dict[str, Any]:
        wanted = {name: self.validated_data.get(name) for name in SAMPLING}
        return {name: value for name, value in wanted.items() if value is not None}

    def request(self) -> dict[str, Any]:
        """What is kept with the question for whoever answers it."""
        return {"messages": self.stored(), **self.sampling()}

    def stored(self) -> list[dict[str, Any]]:
        return [_stored(role, content) for role, content in self.contents()]

    def contents(self) -> list[tuple[str, Content]]:
        """(role, content) of each message: each of the two forms below has its own."""
        raise NotImplementedError


def _stored(role: str, content: Content) -> dict[str, Any]:
    return {"role": role, "text": content.text} | ({"images": list(content.images)} if content.images else {})


def _called_characters(message: dict[str, Any]) -> int:
    return sum(len(call["function"]["arguments"]) for call in message.get("tool_calls") or ())


class ChatMessageSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=["system", "developer", "user", "assistant", "tool"])
    content = ContentField(allow_null=True, required=False)
    tool_calls = serializers.ListField(
        child=ToolCallSerializer(), required=False, allow_null=True, max_length=MOST_TOOLS
    )
    tool_call_id = IdField(required=False, allow_null=True, help_text="Of a message with the role `tool`.")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if (given["role"] == "tool") != bool(given.get("tool_call_id")):
            raise serializers.ValidationError(_("A `tool_call_id` belongs to a message with the role `tool`."))
        if given.get("tool_calls") and given["role"] != "assistant":
            raise serializers.ValidationError(_("Only messages with the role `assistant` hold `tool_calls`."))
        return given


class ChatCompletionSerializer(ToolsSerializer, CompletionSerializer):
    messages = serializers.ListField(child=ChatMessageSerializer(), allow_empty=False, max_length=MOST_MESSAGES)
    max_completion_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=2**31 - 1, help_text="Another name of max_tokens."
    )

    def validate_messages(self, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        contents = [one["content"] for one in given if one.get("content")]
        if sum(len(one.text) for one in contents) + sum(map(_called_characters, given)) > MOST_CHARACTERS:
            raise serializers.ValidationError(_("The messages are too long: at most 1 MiB together."))
        if not any(one.text.strip() or one.images for one in contents):
            raise serializers.ValidationError(_("There is nothing to answer."))
        return given

    def sampling(self) -> dict[str, Any]:
        given = super().sampling()
        limit = self.validated_data.get("max_completion_tokens")
        return given | ({"max_tokens": limit} if limit is not None else {})

    def request(self) -> dict[str, Any]:
        return super().request() | self.offered()

    def stored(self) -> list[dict[str, Any]]:
        given = zip(super().stored(), self.validated_data["messages"], strict=True)
        return [words | called(message) for words, message in given]

    def contents(self) -> list[tuple[str, Content]]:
        roles = {"developer": "system"}
        given = self.validated_data["messages"]
        return [(roles.get(m["role"], m["role"]), m.get("content") or Content("")) for m in given]


class TextCompletionSerializer(CompletionSerializer):
    prompt = StringsField(1)

    def validate_prompt(self, given: list[str]) -> list[str]:
        if not given or not given[0].strip():
            raise serializers.ValidationError(_("There is nothing to answer."))
        if len(given[0]) > MOST_CHARACTERS:
            raise serializers.ValidationError(_("The prompt is too long: at most 1 MiB."))
        return given

    def contents(self) -> list[tuple[str, Content]]:
        return [("user", Content(self.validated_data["prompt"][0]))]
