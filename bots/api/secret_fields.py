"""Secrets over REST: they go in, and only a fingerprint comes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django.db import models
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.key_ring import fingerprint
from clawdbot_site.security.outbound import check_url


class SecretField(serializers.CharField):
    """Write-only; leaving it out keeps the secret that is stored."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"write_only": True, "required": False, "max_length": 1000, **options})


@extend_schema_field(OpenApiTypes.STR)
class FingerprintField(serializers.Field[Any, Any, str, Any]):
    """Twelve characters by which to recognise the secret in the field named; empty where there is none."""

    def __init__(self, secret: str) -> None:
        super().__init__(source="*", read_only=True)
        self.secret = secret

    def to_representation(self, row: Any) -> str:
        try:
            return fingerprint(getattr(row, self.secret))
        except DecryptionError:
            return "unreadable"


class AddressField(serializers.CharField):
    """An address for outgoing calls, judged by the same guard that will make them."""

    def __init__(self, **options: Any) -> None:
        options = {"required": False, "allow_blank": True, **options}
        super().__init__(**options, validators=[check_url])


def refuse_moved_secrets(row: models.Model | None, given: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Errors for secrets that a new ``base_url`` would send to another host without their being given again.

    Otherwise whoever may write the address could read the secret, by having it sent to a host of theirs.
    """
    if row is None or "base_url" not in given or not leads_elsewhere(getattr(row, "base_url", ""), given["base_url"]):
        return {}
    kept = [name for name in names if name not in given and getattr(row, name)]
    return dict.fromkeys(kept, _("Give it again: the address now leads to another host."))


def leads_elsewhere(old_url: str, new_url: str) -> bool:
    return _origin(new_url) != _origin(old_url)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
