"""``credentials/``: the secrets of apps on chat platforms. Reading them needs the right to change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from bots.api.changing import Conflict, ResourceViewSet
from bots.api.secret_fields import AddressField, FingerprintField, SecretField, refuse_moved_secrets
from bots.api.visible import team_field
from integrations import checking, credential_check, quota, quota_meter, secret_change
from integrations.models import Platform, PlatformCredential
from integrations.registry import adapter_for

STATES = ("none", "refused", "entered", "proved")
IDENTITY = ("app_id", "app_secret", "base_url")  # a change of these may make it another bot


class NewSecretStateSerializer(serializers.Serializer[PlatformCredential]):
    """The new secrets that stand beside those in use."""

    state = serializers.SerializerMethodField()
    fingerprints = serializers.SerializerMethodField(help_text="Of the new secrets, by field.")
    unproved = serializers.SerializerMethodField(help_text="Fields whose new secret was not seen to work yet.")
    entered_at = serializers.DateTimeField(source="next_entered_at", allow_null=True)
    proved_at = serializers.DateTimeField(
        source="next_proved_at", allow_null=True, help_text="The platform took the new app secret."
    )
    heard_at = serializers.DateTimeField(
        source="next_heard_at", allow_null=True, help_text="A callback came by the new secrets."
    )
    retires_at = serializers.DateTimeField(
        source="next_retires_at", allow_null=True, help_text="The old one's end; null: by hand."
    )
    error = serializers.CharField(source="next_error")

    @extend_schema_field(serializers.ChoiceField(choices=STATES))
    def get_state(self, row: PlatformCredential) -> str:
        return secret_change.state(row)

    def get_fingerprints(self, row: PlatformCredential) -> dict[str, str]:
        return secret_change.fingerprints(row)

    def get_unproved(self, row: PlatformCredential) -> list[str]:
        return secret_change.unproved(row)


class NewSecretSerializer(serializers.Serializer[Any]):
    app_secret = SecretField()
    verification_token = SecretField()
    encrypt_key = SecretField()
    retire_after_days = serializers.IntegerField(
        default=secret_change.RETIRE_AFTER.days,
        min_value=1,
        max_value=90,
        allow_null=True,
        help_text="So long after now the old secret retires by itself, if the new one is proved. Null: by hand.",
    )


class RetireSerializer(serializers.Serializer[Any]):
    even_unproved = serializers.BooleanField(default=False, help_text="Although the new one was not seen to work.")


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
    new_secret = serializers.SerializerMethodField(help_text="Where the change of a secret stands.")
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
            "new_secret",
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

    @extend_schema_field(NewSecretStateSerializer)
    def get_new_secret(self, row: PlatformCredential) -> Any:
        return NewSecretStateSerializer(row).data

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

    # -- changing a secret without a gap --

    @extend_schema(summary="Enter a new secret", request=NewSecretSerializer, responses=CredentialSerializer)
    @action(detail=True, methods=["post"], url_path="new-secret")
    def new_secret(self, request: Request, pk: str) -> Response:
        """It stands beside the one in use: both are valid. The platform is asked whether it takes the new one."""
        given = NewSecretSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        days = given.validated_data.pop("retire_after_days")
        with _conflicts():
            secret_change.enter(self.get_object(), given.validated_data, timedelta(days=days) if days else None)
        return self._shown()

    @extend_schema(summary="Give a new secret up", request=None, responses=CredentialSerializer)
    @new_secret.mapping.delete
    def withdraw_new_secret(self, request: Request, pk: str) -> Response:
        """The one in use stays."""
        with _conflicts():
            secret_change.withdraw(self.get_object())
        return self._shown()

    @extend_schema(summary="Try a new secret again", request=None, responses=CredentialSerializer)
    @action(detail=True, methods=["post"], url_path="try-new-secret")
    def try_new_secret(self, request: Request, pk: str) -> Response:
        with _conflicts():
            secret_change.try_new(self.get_object())
        return self._shown()

    @extend_schema(summary="Retire the old secret", request=RetireSerializer, responses=CredentialSerializer)
    @action(detail=True, methods=["post"], url_path="retire-old-secret")
    def retire_old_secret(self, request: Request, pk: str) -> Response:
        """From then on only the new one is valid. Refused (409) while it is not proved, unless told otherwise."""
        given = RetireSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        with _conflicts():
            secret_change.retire_old(self.get_object(), even_unproved=given.validated_data["even_unproved"])
        return self._shown()

    def _shown(self) -> Response:
        return Response(self.get_serializer(self.get_object()).data)


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except secret_change.CannotChange as error:
        raise Conflict(str(error)) from None
