"""What network rules, API clients and tokens look like over REST."""

from __future__ import annotations

from typing import Any, cast

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from clawdbot_site.security import rule_lists
from clawdbot_site.security.ip_rules import Rule, locks_out, normalise
from clawdbot_site.security.models import ApiClient, IPRule, Team, User
from clawdbot_site.security.models.clients import Scope, validate_networks, validate_scopes
from clawdbot_site.security.throttling import address_of

LOCKOUT = _("This would refuse your own address %(address)s. Send `confirm_lockout` as true if you mean it.")


class TokenRequestSerializer(serializers.Serializer[Any]):
    """A name and a password, or an API key."""

    username = serializers.CharField(required=False, max_length=150)
    password = serializers.CharField(required=False, max_length=1000, trim_whitespace=False, write_only=True)
    otp = serializers.CharField(
        required=False,
        max_length=32,
        allow_blank=True,
        write_only=True,
        help_text="Who has a second factor: a code of it, or a recovery code. Without: 401 `otp_required`.",
    )
    api_key = serializers.CharField(required=False, max_length=200, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "api_key" not in attrs and not {"username", "password"} <= set(attrs):
            raise serializers.ValidationError(_("Send `username` and `password`, or `api_key`."))
        return attrs


class RefreshSerializer(serializers.Serializer[Any]):
    refresh = serializers.CharField(max_length=200, write_only=True)


class TokensSerializer(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Send it as `Authorization: Bearer …`.")
    refresh = serializers.CharField(help_text="Good for one use: the answer to it holds the next one.")
    expires_in = serializers.IntegerField(help_text="Seconds that `access` is good for.")


class JwkSetSerializer(serializers.Serializer[Any]):
    keys = serializers.ListField(child=serializers.DictField())


class IPRuleSerializer(serializers.ModelSerializer[IPRule]):
    endpoint = serializers.UUIDField(source="endpoint_id", required=False, allow_null=True)
    dry_run = serializers.BooleanField(
        source="is_dry_run", required=False, help_text="Only count and note whom the rule would refuse."
    )
    automatic = serializers.BooleanField(
        source="is_automatic", read_only=True, help_text="Made by ClawdBot after repeated failures."
    )
    created_by = serializers.SlugRelatedField[User](slug_field="username", read_only=True, allow_null=True)
    confirm_lockout = serializers.BooleanField(
        write_only=True, default=False, help_text="Needed for a rule that refuses the address you call from."
    )

    class Meta:
        model = IPRule
        fields = [
            "id",
            "action",
            "network",
            "scope",
            "endpoint",
            "expires_at",
            "dry_run",
            "automatic",
            "note",
            "hits",
            "last_hit_at",
            "created_at",
            "updated_at",
            "created_by",
            "confirm_lockout",
        ]
        read_only_fields = ["hits", "last_hit_at"]

    def validate_network(self, value: str) -> str:
        return normalise(value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse what the database would refuse, what has no effect, and an accidental lock-out (rule N7)."""
        is_confirmed = attrs.pop("confirm_lockout", False)
        candidate = self._with(attrs)
        if candidate.endpoint_id and candidate.scope != IPRule.Scope.WEBHOOKS:
            raise serializers.ValidationError({"endpoint": _("Only a rule for webhooks can name an endpoint.")})
        if attrs.get("expires_at") and attrs["expires_at"] <= timezone.now() and self.instance is None:
            raise serializers.ValidationError({"expires_at": _("This is in the past.")})
        address = address_of(self.context["request"])
        if not is_confirmed and would_lock_out(address, candidate):
            raise serializers.ValidationError({"confirm_lockout": LOCKOUT % {"address": address}})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> IPRule:
        return super().create({**validated_data, "created_by": person_of(self.context["request"])})

    def _with(self, attrs: dict[str, Any]) -> IPRule:
        """The rule as it would be, not saved."""
        names = ("action", "network", "scope", "endpoint_id", "expires_at", "is_dry_run")
        present = {name: getattr(self.instance, name) for name in names} if isinstance(self.instance, IPRule) else {}
        key = {"id": self.instance.pk} if isinstance(self.instance, IPRule) else {}
        return IPRule(**key, **{**present, **{name: attrs[name] for name in names if name in attrs}})


class RuleImportSerializer(serializers.Serializer[Any]):
    """A list of networks, or CSV, and what holds for lines that do not say it themselves."""

    text = serializers.CharField(max_length=rule_lists.MOST_BYTES, trim_whitespace=False)
    action = serializers.ChoiceField(choices=IPRule.Action.choices, default=IPRule.Action.BLOCK)
    scope = serializers.ChoiceField(choices=IPRule.Scope.choices, default=IPRule.Scope.SITE)
    endpoint = serializers.UUIDField(source="endpoint_id", required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    dry_run = serializers.BooleanField(source="is_dry_run", default=False)
    note = serializers.CharField(max_length=200, default="", allow_blank=True)
    preview = serializers.BooleanField(default=False, help_text="Only say what an import would do.")
    confirm_lockout = serializers.BooleanField(default=False)


class RuleProblemSerializer(serializers.Serializer[Any]):
    line = serializers.IntegerField()
    message = serializers.CharField()


class RuleReadingSerializer(serializers.Serializer[Any]):
    rules = serializers.IntegerField(help_text="How many rules are (or would be) made.")
    existing = serializers.IntegerField(help_text="Lines whose rule is there already.")
    problem_count = serializers.IntegerField()
    problems = RuleProblemSerializer(many=True)
    locks_out = serializers.BooleanField(help_text="Whether it refuses the address you call from.")


def would_lock_out(address: str, rule: IPRule, *, is_deleted: bool = False) -> bool:
    """Whether saving (or deleting) ``rule`` would refuse the admin pages or the API to ``address``."""
    before: list[Rule] = IPRule.objects.all().compiled_form()
    others = [one for one in before if one.id != str(rule.pk)]
    return locks_out(before, others if is_deleted else [*others, rule.as_rule()], address)


def person_of(request: Request) -> User | None:
    """The account behind a call; None when a program called."""
    return request.user if isinstance(request.user, User) else None


@extend_schema_field(serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices)))
class ScopesField(serializers.JSONField):
    """A list of scopes, none of them beyond the caller's own."""

    default_validators = [validate_scopes]

    def to_internal_value(self, data: Any) -> Any:
        validate_scopes(data)
        own = frozenset(getattr(self.context["request"].auth, "scopes", ()))
        held = frozenset(getattr(getattr(self.parent, "instance", None), "scopes", ()))
        if foreign := sorted(set(data) - own - held):
            raise serializers.ValidationError(
                _("You cannot give what you do not have: %(scopes)s.") % {"scopes": ", ".join(foreign)}
            )
        return sorted(set(data))


@extend_schema_field(serializers.ListField(child=serializers.CharField(help_text="A network, like 10.0.0.0/8.")))
class NetworksField(serializers.JSONField):
    default_validators = [validate_networks]

    def to_internal_value(self, data: Any) -> Any:
        validate_networks(data)
        return [normalise(one) for one in data]


class ApiClientSerializer(serializers.ModelSerializer[ApiClient]):
    scopes = ScopesField()
    networks = NetworksField(required=False)
    team = serializers.SlugRelatedField[Team](
        slug_field="name",
        queryset=Team.objects.all(),
        required=False,
        allow_null=True,
        help_text="The name of the team whose things it sees, besides those of none; null: everything.",
    )
    expires_at = serializers.DateTimeField(source="expiry_date", required=False, allow_null=True)
    created_at = serializers.DateTimeField(source="created", read_only=True)
    created_by = serializers.SlugRelatedField[User](slug_field="username", read_only=True, allow_null=True)

    class Meta:
        model = ApiClient
        fields = [
            "id",
            "name",
            "scopes",
            "team",
            "networks",
            "expires_at",
            "is_active",
            "prefix",
            "last_used_at",
            "created_at",
            "created_by",
        ]
        read_only_fields = ["prefix", "last_used_at"]

    def validate_team(self, team: Team | None) -> Team | None:
        """A program of one team makes none that sees more."""
        if team != (bound := bound_team(self.context["request"])) and bound is not None:
            raise serializers.ValidationError(_("You cannot give what you do not have: another team's view."))
        return team


def bound_team(request: Request) -> Team | None:
    """The team of the program that calls; None for people and for programs that see everything."""
    client = getattr(request.user, "client", None)
    return client.team if isinstance(client, ApiClient) else None


class ApiClientCreatedSerializer(ApiClientSerializer):
    """The answer to making a client: the only one that holds the key."""

    key = serializers.CharField(read_only=True, help_text="Shown this once: keep it.")

    class Meta(ApiClientSerializer.Meta):
        fields = [*ApiClientSerializer.Meta.fields, "key"]

    def create(self, validated_data: dict[str, Any]) -> ApiClient:
        creator = person_of(self.context["request"])
        if bound := bound_team(self.context["request"]):
            validated_data["team"] = bound
        client: Any
        client, client.key = ApiClient.objects.create_key(**validated_data, created_by=creator)
        return cast(ApiClient, client)
