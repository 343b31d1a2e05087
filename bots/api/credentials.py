"""``credentials/``: the secrets of apps on chat platforms. Reading them needs the right to change them."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from bots.api.changing import ResourceViewSet
from bots.api.secret_fields import AddressField, FingerprintField, SecretField, refuse_moved_secrets
from bots.api.visible import team_field
from integrations import checking, credential_check, quota, quota_meter
from integrations.models import Platform, PlatformCredential
from integrations.registry import adapter_for

IDENTITY = ("app_id", "app_secret", "base_url")  # a change of these may make it another bot


class CredentialSerializer(serializers.ModelSerializer[PlatformCredential]):
    team = team_field()
    app_secret = SecretField(help_text="Needed to create; leaving it out later keeps it.")
    verification_token = SecretField(
        allow_blank=True, help_text="Of the event settings. Feishu: needed. DingTalk: for events over HTTP."
    )
    encrypt_key = SecretField(
        allow_blank=True,
        help_text="Feishu: needed unless `allow_unsigned`. DingTalk: the AES key of the event settings.",
    )
    app_secret_fingerprint = FingerprintField("app_secret")
    verification_token_fingerprint = FingerprintField("verification_token")
    encrypt_key_fingerprint = FingerprintField("encrypt_key")
    base_url = AddressField(max_length=300, help_text="Empty: the platform's usual address.")
    quota_used = serializers.SerializerMethodField(help_text="Calls of this month, by quota.")

    class Meta:
        model = PlatformCredential
        fields = [
            "id",
            "name",
            "team",
            "platform",
            "app_id",
            "app_secret",
            "app_secret_fingerprint",
            "verification_token",
            "verification_token_fingerprint",
            "encrypt_key",
            "encrypt_key_fingerprint",
            "robot_code",
            "corp_id",
            "allow_unsigned",
            "base_url",
            "card_template_id",
            "rotate_by",
            "monthly_api_quota",
            "monthly_webhook_quota",
            "quota_used",
            "created_at",
            "updated_at",
        ]
        read_only_fields = ["rotate_by"]
        validators: list[Any] = []  # the app's uniqueness is checked below, in words

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        row = self.instance if isinstance(self.instance, PlatformCredential) else None
        errors = refuse_moved_secrets(row, attrs, PlatformCredential.SECRETS[:1])
        wanted = _Wanted(row, attrs)
        errors |= wanted.missing() | wanted.clash()
        if errors:
            raise serializers.ValidationError(errors)
        return attrs

    def update(self, instance: PlatformCredential, validated_data: dict[str, Any]) -> PlatformCredential:
        if _changes(_identity(instance), validated_data):
            validated_data["own_id"] = ""  # learned anew when it is needed
        is_another_plan = _changes(_plan(instance), validated_data)
        changed = super().update(instance, validated_data)
        if is_another_plan:
            quota_meter.allow_again(changed)
        return changed

    def get_quota_used(self, row: PlatformCredential) -> dict[str, int]:
        return {state.quota: state.used for state in quota.states(row)}


def _changes(held: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return any(wanted.get(name, value) != value for name, value in held.items())


def _plan(row: PlatformCredential) -> dict[str, int]:
    return {"monthly_api_quota": row.monthly_api_quota, "monthly_webhook_quota": row.monthly_webhook_quota}


class _Wanted:
    """The row as it would be."""

    def __init__(self, row: PlatformCredential | None, given: dict[str, Any]) -> None:
        self._row, self._given = row, given
        self._platform = self._value("platform")

    def _value(self, name: str) -> Any:
        return self._given.get(name, getattr(self._row, name, ""))

    def missing(self) -> dict[str, Any]:
        errors: dict[str, Any] = {}
        if not self._value("app_secret"):
            errors["app_secret"] = _("Every app has one: copy it from the platform's console.")
        if self._row and self._platform != self._row.platform:
            errors["platform"] = _("An app stays on its platform. Make another credential.")
        if self._platform == Platform.FEISHU:
            errors |= self._missing_for_feishu()
        return errors | self._faults()

    def _faults(self) -> dict[str, Any]:
        if self._platform not in Platform:
            return {}
        entered = {name: self._given.get(name) or "" for name in PlatformCredential.SECRETS}
        held = [name for name in PlatformCredential.SECRETS if self._value(name)]
        return dict(adapter_for(self._platform).credential_faults(entered, held))

    def _missing_for_feishu(self) -> dict[str, Any]:
        errors: dict[str, Any] = {}
        if not self._value("verification_token"):
            errors["verification_token"] = _("Feishu apps have one: copy it from Events & Callbacks.")
        if not self._value("encrypt_key") and not self._value("allow_unsigned"):
            errors["encrypt_key"] = _(
                "Set an Encrypt Key in Feishu's console: without one callbacks are not signed. "
                "To accept that risk, send `allow_unsigned` as true."
            )
        return errors

    def clash(self) -> dict[str, Any]:
        same = PlatformCredential.objects.filter(platform=self._platform, app_id=self._value("app_id"))
        if not (same.exclude(pk=self._row.pk) if self._row else same).exists():
            return {}
        return {"app_id": _("There is a credential for this app already. Change that one.")}


class FindingSerializer(serializers.Serializer[checking.Finding]):
    level = serializers.ChoiceField(choices=checking.WORST_FIRST)
    what = serializers.CharField()
    fix = serializers.CharField(help_text="What to do. May be empty.")
    link = serializers.CharField(help_text="Where. May be empty; a path is one of this site.")


class CheckSerializer(serializers.Serializer[Any]):
    ok = serializers.BooleanField(help_text="Nothing failed. There may be warnings.")
    findings = FindingSerializer(many=True, help_text="Worst first.")


def _identity(row: PlatformCredential) -> dict[str, str]:
    return {name: getattr(row, name) for name in IDENTITY}


class CredentialViewSet(ResourceViewSet):
    """Platform credentials. Secrets are never returned, only fingerprints."""

    queryset = PlatformCredential.objects.select_related("team")
    serializer_class = CredentialSerializer
    required_scopes = {"read": "bots:write", "write": "bots:write"}
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = ["platform", "app_id", "name"]

    def get_queryset(self) -> QuerySet[PlatformCredential]:
        """With this month's use, read anew for each request."""
        rows: QuerySet[PlatformCredential] = super().get_queryset()
        return rows.prefetch_related(quota.with_usage())

    @extend_schema(summary="Check the connection", request=None, responses=CheckSerializer)
    @action(detail=True, methods=["post"])
    def check(self, request: Request, pk: str) -> Response:
        """Ask the platform itself what works and what is missing. Nothing is sent to anybody; takes 15 s at most."""
        findings = credential_check.check(self.get_object())
        return Response(CheckSerializer({"ok": checking.is_ok(findings), "findings": findings}).data)
