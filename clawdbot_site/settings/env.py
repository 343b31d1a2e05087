"""The only reader of the environment: name, type and default of every setting. Secrets may come from ``NAME_FILE``.

Without ``REDIS_URL`` ClawdBot runs embedded: one process, SQLite, and secrets that it makes for itself under the data
folder. With it, missing secrets stop the start.
"""

from __future__ import annotations

import base64
import ipaddress
import locale
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]
# Long words only: a short one would turn up in one of some hundred random keys.
PLACEHOLDERS = (
    "changeme",
    "change-me",
    "change_me",
    "placeholder",
    "password",
    "insecure",
    "your-secret",
    "your_secret",
)
SHORTEST_RETENTION_DAYS = 180
FEWEST_CHARACTERS = 10  # different ones; "xxxx…" is no secret


class Environment(environ.FileAwareEnv):
    """Says which variable is wrong, in one sentence, instead of a traceback."""

    def __call__(self, var: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(var, *args, **kwargs)
        except (ValueError, OSError) as error:
            raise ImproperlyConfigured(f"{var} cannot be read: {error}. See docs/settings.md.") from None


env = Environment(
    CLAWDBOT_HOST=(str, "127.0.0.1"),  # where `make run` listens
    CLAWDBOT_PORT=(int, 18789),
    CLAWDBOT_DATA_DIR=(str, "var"),  # database, generated secrets, media; relative to the checkout
    CLAWDBOT_ADMIN_PASSWORD=(str, ""),  # of the first superuser; empty: generated into the data folder
    CLAWDBOT_PUBLIC_URL=(str, ""),  # base of the webhook addresses; empty: from host and port
    ALLOWED_HOSTS=(list, []),  # host names besides the public one and the loopback ones
    SECRET_KEY=(str, ""),  # generated in the embedded mode, else required
    FIELD_ENCRYPTION_KEYS=(list, []),  # key-encryption keys, newest first, 32 bytes base64 each; as SECRET_KEY
    KEY_PROVIDER=(str, "env"),  # where the key-encryption keys live
    DATABASE_URL=(str, ""),  # empty: SQLite under the data folder
    DATABASE_OWNER_URL=(str, ""),  # the role that migrates, where the running site may not change audit rows
    REDIS_URL=(str, ""),  # empty: embedded broker, channel layer and cache
    MODEL_ENDPOINT=(str, ""),  # an OpenAI-compatible service, seeded as the model `remote`; ends in /v1
    MODEL_API_KEY=(str, ""),
    MODEL_NAME=(str, ""),
    MODEL_PATH=(str, ""),  # a local model folder, seeded as the model `local`; empty: the bundled demo model
    FEISHU_BASE_URL=(str, "https://open.feishu.cn"),
    DINGTALK_API_URL=(str, "https://api.dingtalk.com"),
    DINGTALK_OAPI_URL=(str, "https://oapi.dingtalk.com"),
    TRUSTED_PROXIES=(list, []),  # networks whose X-Forwarded-For is believed
    METRICS_ALLOWED_NETWORKS=(list, ["127.0.0.0/8", "::1/128"]),
    METRICS_TOKEN=(str, ""),
    WORKER_METRICS_PORT=(int, 0),
    MFA_REQUIRED_ROLES=(list, []),
    AUDIT_SINKS=(list, []),  # where signed checkpoints of the audit log are copied; empty: file:<data dir>/audit
    AUDIT_RETENTION_DAYS=(int, 400),
    OUTBOUND_PROXY=(str, ""),
    OUTBOUND_ALLOWED_NETWORKS=(list, []),  # private networks that outgoing calls may reach
    EMAIL_URL=(str, ""),
    LOG_DIR=(str, ""),
    LOG_ROTATION=(str, "daily"),  # daily: by ourselves; external: by logrotate
    LOG_FORMAT=(str, "console"),  # console or json
    LOG_LEVEL=(str, "INFO"),
    LOG_MASK_PERSONAL_DATA=(bool, True),  # phone and ID numbers, e-mail addresses, bank cards in log lines
    LANGUAGE_CODE=(str, ""),
    TIME_ZONE=(str, ""),
    DEBUG=(bool, False),
)
if Path(BASE_DIR, ".env").is_file():
    environ.Env.read_env(str(BASE_DIR / ".env"))


def is_embedded() -> bool:
    return not env("REDIS_URL")


def data_dir() -> Path:
    return BASE_DIR / str(env("CLAWDBOT_DATA_DIR"))


def public_url() -> str:
    given = str(env("CLAWDBOT_PUBLIC_URL")).rstrip("/")
    return given or f"http://{env('CLAWDBOT_HOST')}:{env('CLAWDBOT_PORT')}"


def language() -> str:
    spoken = locale.getlocale()[0] or os.environ.get("LANG", "")
    return str(env("LANGUAGE_CODE")) or ("zh-hans" if spoken.startswith("zh") else "en")


def networks(name: str) -> list[str]:
    """CIDR strings; an entry that is none stops the start."""
    for entry in env(name):
        try:
            ipaddress.ip_network(entry, strict=False)
        except ValueError:
            raise ImproperlyConfigured(f"{name}: {entry!r} is no network. Write it like 10.0.0.0/8.") from None
    return list(env(name))


def audit_retention_days() -> int:
    days = int(env("AUDIT_RETENTION_DAYS"))
    if days < SHORTEST_RETENTION_DAYS:
        raise ImproperlyConfigured(f"AUDIT_RETENTION_DAYS: at least {SHORTEST_RETENTION_DAYS}, not {days}.")
    return days


def base_url(name: str) -> str:
    """An http(s) address without its trailing slash, or an empty string."""
    url = str(env(name)).rstrip("/")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ImproperlyConfigured(f"{name}: {url!r} is no address. Write it like https://host/path.")
    return url


def secret(name: str, file_name: str, make: Callable[[], str]) -> str:
    """A required secret: from the environment, or (embedded mode only) made once and kept under the data folder."""
    value = str(env(name)) if not isinstance(env(name), list) else ",".join(env(name))
    if value:
        return _checked(name, value)
    if not is_embedded():
        raise ImproperlyConfigured(f"{name} is not set. Give it (or {name}_FILE) in the environment or in .env.")
    return generated(file_name, make)


def _checked(name: str, value: str) -> str:
    is_poor = len(value) < 32 or len(set(value)) < FEWEST_CHARACTERS
    if is_poor or any(word in value.lower() for word in PLACEHOLDERS):
        raise ImproperlyConfigured(
            f"{name} is a placeholder or too short. "
            "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return value


def generated(file_name: str, make: Callable[[], str]) -> str:
    """The content of a file under the data folder, made at the first call, readable by its owner only."""
    path = data_dir() / file_name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"The data folder {path.parent} cannot be written ({error.strerror}).") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(make() + "\n")
    return path.read_text("utf-8").strip()


def new_secret_key() -> str:
    return secrets.token_urlsafe(64)


def new_encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def encryption_keys() -> list[str]:
    """Key-encryption keys, newest first; each 32 bytes in base64."""
    keys = secret("FIELD_ENCRYPTION_KEYS", "field-encryption-keys", new_encryption_key).split(",")
    for key in keys:
        if not _is_key(key):
            raise ImproperlyConfigured(
                "FIELD_ENCRYPTION_KEYS: each key must be 32 bytes in base64, with commas between."
            )
    return keys


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)) == 32
    except ValueError:
        return False
