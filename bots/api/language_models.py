"""``models/``: which models there are, and where."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from bots.api.changing import READ_AND_WRITE_BOTS, ResourceViewSet
from bots.api.secret_fields import AddressField, FingerprintField, SecretField, refuse_moved_secrets
from inference.models import LanguageModel

Engine = LanguageModel.Engine
NEEDED: dict[str, str] = {Engine.OPENAI: "base_url", Engine.TRANSFORMERS: "path"}


class LanguageModelSerializer(serializers.ModelSerializer[LanguageModel]):
    base_url = AddressField(max_length=500, help_text="Services: usually ends in /v1.")
    api_key = SecretField(allow_blank=True)
    api_key_fingerprint = FingerprintField("api_key")

    class Meta:
        model = LanguageModel
        fields = [
            "id",
            "name",
            "engine",
            "path",
            "base_url",
            "model",
            "api_key",
            "api_key_fingerprint",
            "max_context_tokens",
            "max_concurrency",
            "queue",
            "vision",
            "status",
            "status_detail",
            "checked_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["status", "status_detail", "checked_at"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        engine = str(attrs.get("engine") or getattr(self.instance, "engine", ""))
        needed = NEEDED.get(engine)
        if needed and not attrs.get(needed, getattr(self.instance, needed, "")):
            raise serializers.ValidationError({needed: _("The engine %(engine)s needs it.") % {"engine": engine}})
        if errors := refuse_moved_secrets(_row(self.instance), attrs, ["api_key"]):
            raise serializers.ValidationError(errors)
        return attrs


def _row(instance: object) -> LanguageModel | None:
    return instance if isinstance(instance, LanguageModel) else None


class LanguageModelViewSet(ResourceViewSet):
    """Language models. A model that a bot uses cannot be deleted."""

    queryset = LanguageModel.objects.all()
    serializer_class = LanguageModelSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = ["name", "engine", "status"]
