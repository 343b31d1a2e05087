"""``models/`` and ``model-keys/``: which models there are, where, how they are; further API keys of services."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from bots.api.changing import READ_AND_WRITE_BOTS, ResourceViewSet
from bots.api.secret_fields import (
    AddressField,
    FingerprintField,
    SecretField,
    leads_elsewhere,
    refuse_moved_secrets,
)
from inference import asking
from inference.models import LanguageModel, ModelKey, WorkerState

Engine = LanguageModel.Engine
WHERE = ("engine", "path", "base_url", "model", "api_key")
NEEDED: dict[str, str] = {Engine.OPENAI: "base_url", Engine.TRANSFORMERS: "path"}


class WorkerStateSerializer(serializers.ModelSerializer[WorkerState]):
    class Meta:
        model = WorkerState
        fields = ["worker", "state", "detail", "stats", "memory_bytes", "gpu_memory_bytes", "started_at", "seen_at"]
        read_only_fields = fields


class LanguageModelSerializer(serializers.ModelSerializer[LanguageModel]):
    base_url = AddressField(max_length=500, help_text="Services: usually ends in /v1.")
    api_key = SecretField(allow_blank=True)
    api_key_fingerprint = FingerprintField("api_key")
    workers = serializers.SerializerMethodField(help_text="Processes that run it now, and what they say of themselves.")

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
            "rotate_by",
            "max_context_tokens",
            "max_concurrency",
            "queue",
            "vision",
            "first_token_timeout_s",
            "between_tokens_timeout_s",
            "is_checked_often",
            "prompt_price",
            "completion_price",
            "currency",
            "workers",
            "digests_pinned_at",
            "first_token_ms",
            "tokens_per_s",
            "failed_checks",
            "status",
            "status_detail",
            "checked_at",
            "created_at",
            "updated_at",
        ]
        read_only_fields = [
            "rotate_by",
            "digests_pinned_at",
            "first_token_ms",
            "tokens_per_s",
            "failed_checks",
            "status",
            "status_detail",
            "checked_at",
        ]

    @extend_schema_field(WorkerStateSerializer(many=True))
    def get_workers(self, model: LanguageModel) -> Any:
        live = getattr(model, "live_workers", None)
        return WorkerStateSerializer(model.workers.live() if live is None else live, many=True).data

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        engine = str(attrs.get("engine") or getattr(self.instance, "engine", ""))
        needed = NEEDED.get(engine)
        if needed and not attrs.get(needed, getattr(self.instance, needed, "")):
            raise serializers.ValidationError({needed: _("The engine %(engine)s needs it.") % {"engine": engine}})
        row = _row(self.instance)
        if errors := refuse_moved_secrets(row, attrs, ["api_key"]) or _moved_keys(row, attrs):
            raise serializers.ValidationError(errors)
        return attrs

    def update(self, instance: LanguageModel, validated_data: dict[str, Any]) -> LanguageModel:
        changed = {name for name in WHERE if name in validated_data and validated_data[name] != getattr(instance, name)}
        if changed:
            instance.forget_check()
        if changed & {"engine", "path"}:
            instance.forget_files()
        return super().update(instance, validated_data)


class ModelKeySerializer(serializers.ModelSerializer[ModelKey]):
    model = serializers.SlugRelatedField(
        slug_field="name", queryset=LanguageModel.objects.all(), help_text="The model's name; fixed from the start."
    )
    key = SecretField(required=True)
    key_fingerprint = FingerprintField("key")

    class Meta:
        model = ModelKey
        fields = ["id", "model", "name", "key", "key_fingerprint", "is_enabled", "rotate_by"]
        fields += ["refused_at", "rests_until", "refusal", "created_at"]
        read_only_fields = ["rotate_by", "refused_at", "rests_until", "refusal"]

    def validate_model(self, model: LanguageModel) -> LanguageModel:
        """A key that could be moved to a model of one's own could be read there."""
        if isinstance(self.instance, ModelKey) and self.instance.model_id != model.pk:
            raise serializers.ValidationError(_("A key stays with its model. Make a new one there."))
        return model


def _moved_keys(row: LanguageModel | None, given: dict[str, Any]) -> dict[str, Any]:
    """Further keys must not go to another host unseen, as little as the first one."""
    if row is None or "base_url" not in given or not leads_elsewhere(row.base_url, given["base_url"]):
        return {}
    text = _("Delete the further API keys first: the address now leads to another host.")
    return {"base_url": text} if row.keys.exists() else {}


def _row(instance: object) -> LanguageModel | None:
    return instance if isinstance(instance, LanguageModel) else None


class LanguageModelViewSet(ResourceViewSet):
    """Language models. A model that a bot uses cannot be deleted."""

    queryset = LanguageModel.objects.all()
    serializer_class = LanguageModelSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = ["name", "engine", "status"]

    def get_queryset(self) -> QuerySet[LanguageModel]:
        """Asked for anew each time: what a prefetch calls live is so at that moment."""
        live = Prefetch("workers", WorkerState.objects.live(), to_attr="live_workers")
        return LanguageModel.objects.prefetch_related(live)

    @extend_schema(
        summary="Ask a model something",
        request=None,
        responses={200: LanguageModelSerializer, 202: LanguageModelSerializer},
    )
    @action(detail=True, methods=["post"])
    def check(self, request: Request, pk: str) -> Response:
        """200 with the outcome; 202 where a worker was asked to: read the model again in some seconds."""
        model = self.get_object()
        status = 200 if asking.ask(model) else 202
        return Response(self.get_serializer(model).data, status=status)

    @extend_schema(summary="Accept a local model's files", request=None, responses=LanguageModelSerializer)
    @action(detail=True, methods=["post"], url_path="accept-files")
    def accept_files(self, request: Request, pk: str) -> Response:
        """The folder was changed on purpose: the next load pins what is there then."""
        model = self.get_object()
        asking.accept_files(model)
        return Response(self.get_serializer(model).data)


class ModelKeyViewSet(ResourceViewSet):
    """Further API keys of services: keys of one model take turns, one that is refused rests."""

    queryset = ModelKey.objects.select_related("model")
    serializer_class = ModelKeySerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = ["model__name", "is_enabled"]
