"""What must not start: a site outside development whose secrets are placeholders, or whose doors have no lock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.conf import settings
from django.core import checks

from clawdbot_site.security import key_ring

PLACEHOLDERS: Final = ("changeme", "change-me", "change_me", "placeholder", "example", "insecure", "xxxx", "todo")
WHOLE_PLACEHOLDERS: Final = frozenset({"admin", "secret", "password", "passw0rd", "test", "none"})
# name -> fewest characters; optional ones may be empty
REQUIRED: Final = {"SECRET_KEY": 32}
KEYS: Final = {"FIELD_ENCRYPTION_KEYS": 43}  # required where KEY_PROVIDER=env
OPTIONAL: Final = {"METRICS_TOKEN": 16, "ADMIN_PASSWORD": 8}
OF_VAULT: Final = {"VAULT_TOKEN": ("token", 16), "VAULT_SECRET_ID": ("secret_id", 16)}
LIMITED_BACKEND: Final = "clawdbot_site.security.authentication.LimitedBackend"
HAS_SCOPES: Final = "clawdbot_site.security.permissions.HasScopes"


def register() -> None:
    checks.register(check_secrets, checks.Tags.security)
    checks.register(check_doors, checks.Tags.security)
    checks.register(key_ring.check_settings, checks.Tags.security)


def check_secrets(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Rule E11. The messages name the setting, never its value."""
    if settings.DEBUG:
        return []
    required = {**REQUIRED, **KEYS} if settings.KEY_PROVIDER == "env" else REQUIRED
    found = [_judge(name, value, fewest, is_required=True) for name, fewest, value in _values(required)]
    found += [_judge(name, value, fewest, is_required=False) for name, fewest, value in _values(OPTIONAL)]
    found += [_judge(name, settings.VAULT[key], fewest, is_required=False) for name, (key, fewest) in OF_VAULT.items()]
    return [one for one in found if one]


def _values(table: dict[str, int]) -> Iterable[tuple[str, int, str]]:
    for name, fewest in table.items():
        value = getattr(settings, name, "") or ""
        for one in value if isinstance(value, list | tuple) else [value]:
            yield name, fewest, str(one)
        if value == [] or value == ():
            yield name, fewest, ""


def _judge(name: str, value: str, fewest: int, *, is_required: bool) -> checks.CheckMessage | None:
    if not value:
        return _error(name, "is empty", "E001") if is_required else None
    lowered = value.lower()
    if lowered in WHOLE_PLACEHOLDERS or any(word in lowered for word in PLACEHOLDERS):
        return _error(name, "is a placeholder", "E002")
    if len(value) < fewest or len(set(value)) < min(5, fewest):
        return _error(name, f"is too short or too simple: at least {fewest} random characters", "E003")
    return None


def _error(name: str, what: str, number: str) -> checks.CheckMessage:
    hint = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
    return checks.Error(f"{name} {what}.", hint=hint, id=f"security.{number}")


def check_doors(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """Settings that would quietly open the site: other sign-in backends, other default permissions."""
    found: list[checks.CheckMessage] = []
    if list(settings.AUTHENTICATION_BACKENDS) != [LIMITED_BACKEND]:
        text = f"AUTHENTICATION_BACKENDS must be [{LIMITED_BACKEND!r}]: another one does not limit guessing."
        found.append(checks.Error(text, id="security.E004"))
    framework: dict[str, Any] = settings.REST_FRAMEWORK
    if list(framework.get("DEFAULT_PERMISSION_CLASSES", ())) != [HAS_SCOPES]:
        text = f"DEFAULT_PERMISSION_CLASSES must be [{HAS_SCOPES!r}]: views that declare nothing must stay closed."
        found.append(checks.Error(text, id="security.E005"))
    return found
