"""API clients over REST, for who holds the scope ``admin``; and where its resources hang."""

from __future__ import annotations

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.routers import BaseRouter

from clawdbot_site.security.models import ApiClient
from clawdbot_site.security.models.clients import Scope
from clawdbot_site.security.network_api import IPRuleViewSet
from clawdbot_site.security.serializers import ApiClientCreatedSerializer, ApiClientSerializer, bound_team
from monitoring import audit
from monitoring.api import AuditedModelViewSet

ADMIN_ONLY = {"read": Scope.ADMIN.value, "write": Scope.ADMIN.value}


@extend_schema_view(
    create=extend_schema(request=ApiClientSerializer, responses={201: ApiClientCreatedSerializer}),
    destroy=extend_schema(description="Revokes the key for good, at once."),
)
class ApiClientViewSet(AuditedModelViewSet):
    """Programs that may call. A client's key is in the answer that makes it, and nowhere else."""

    queryset = ApiClient.objects.select_related("created_by", "team").filter(revoked=False)
    required_scopes = ADMIN_ONLY
    filterset_fields = ["name", "prefix", "is_active"]
    ordering = ("-created", "-id")

    def get_queryset(self) -> QuerySet[ApiClient]:
        """A program of one team manages that team's programs only."""
        rows = super().get_queryset()
        bound = bound_team(self.request)
        return rows.filter(team=bound) if bound else rows

    def get_serializer_class(self) -> type[ApiClientSerializer]:
        return ApiClientCreatedSerializer if self.action == "create" else ApiClientSerializer

    @transaction.atomic
    def perform_destroy(self, instance: ApiClient) -> None:
        """Revoke, and keep the row: the log names it, and its last use may still be asked for."""
        instance.revoked = True
        instance.save(update_fields=["revoked"])
        audit.record("apiclient.revoked", target=instance)


def register(router: BaseRouter) -> None:
    """Mount these resources on the router of ``/api/v1/``."""
    router.register("ip-rules", IPRuleViewSet, basename="ip-rule")
    router.register("api-clients", ApiClientViewSet, basename="api-client")
