"""The parts of the site by path: whose rules apply to a visit, and how much it may send. Pure."""

from __future__ import annotations

from typing import Final

from django.conf import settings

MIB: Final = 1024 * 1024
# The first prefix that fits decides which rules apply besides the site's.
AREAS: Final = (
    ("/webhooks/", "webhooks"),
    ("/api/v1/hooks/", "webhooks"),
    ("/admin/", "admin"),
    ("/api/", "api"),
    ("/v1/", "api"),
    ("/ws/", "api"),
)
AREA_NAMES: Final = ("admin", "api", "webhooks")
TOKENS: Final = "/api/v1/auth/"
PROBES: Final = frozenset({"/livez", "/readyz"})
# The resources of the API have smaller limits of their own; pictures for a model and lists of rules need these.
BODY_BYTES: Final = {"webhooks": MIB, "api": 10 * MIB, "site": MIB}


def area_of(path: str) -> str:
    """Which rules apply to a path: its own area's, or only the site's (pages, probes, metrics, keys)."""
    whole = path if path.endswith("/") else f"{path}/"
    return next((area for prefix, area in AREAS if whole.startswith(prefix)), "site")


def body_limit(area: str) -> int:
    """The most bytes that a body may have; the admin's forms as many as Django itself takes."""
    return BODY_BYTES.get(area) or int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 10 * MIB)
