"""The addresses of probes and of Prometheus."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views import defaults
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from monitoring import audit, health, metrics
from monitoring.client_ip import client_ip, in_networks, is_direct, scope_of


@never_cache
@require_safe
def metrics_page(request: HttpRequest) -> HttpResponse:
    """All series in Prometheus' text format."""
    if not may_read_metrics(request):
        audit.record_refusal("metrics.refused", target_label="/metrics", reason="address or token not allowed")
        return HttpResponse("Forbidden\n", status=403, content_type="text/plain; charset=utf-8")
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(metrics.registry()), content_type=content_type)


@never_cache
@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """This process answers; nothing else is asked."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether this process can do its work. The single checks are for those who may read /metrics."""
    results = health.recent()
    is_ready = health.is_ready(results)
    body: dict[str, Any] = {"status": "ok" if is_ready else "unavailable"}
    if may_read_metrics(request):
        body["checks"] = {result.name: _shown(result) for result in results}
    return JsonResponse(body, status=200 if is_ready else 503)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's page for a refused request (``handler403``), and the note that somebody was refused."""
    route = request.resolver_match.route if request.resolver_match else ""
    audit.record_refusal("access.refused", target_label=route, reason="permission denied")
    return defaults.permission_denied(request, exception)


def may_read_metrics(request: HttpRequest) -> bool:
    """By bearer token, or by address; a stranger's claim to forward is never local (is_direct)."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    token = getattr(settings, "METRICS_TOKEN", "")
    if token and kind.lower() == "bearer" and constant_time_compare(given.strip(), token):
        return True
    scope = scope_of(request)
    return is_direct(scope) and in_networks(client_ip(scope), settings.METRICS_ALLOWED_NETWORKS)


def _shown(result: health.Result) -> dict[str, Any]:
    status = "ok" if result.is_ok else "failed"
    return {
        "status": status,
        "critical": result.is_critical,
        "detail": result.detail,
        "duration_ms": result.duration_ms,
    }
