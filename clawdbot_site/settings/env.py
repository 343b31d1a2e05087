"""The only reader of the environment: name, type and default of every setting. Secrets may come from ``NAME_FILE``.

Without ``REDIS_URL`` ClawdBot runs embedded: one process, SQLite, and secrets that it makes for itself under the data
folder. With it, missing secrets stop the start.
"""

from __future__ import annotations

import base64
import ipaddress
import locale
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from monitoring.redaction import redact

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
ROLES = ("owner", "operator", "security", "auditor", "service")
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
    KEY_PROVIDER=(str, "env"),  # where the key-encryption keys live: env, file or vault
    VAULT_ADDR=(str, ""),  # HashiCorp Vault or OpenBao, like https://vault.example.com:8200
    VAULT_TOKEN=(str, ""),  # VAULT_TOKEN_FILE is read at each call: an agent may keep it fresh
    VAULT_ROLE_ID=(str, ""),  # or AppRole
    VAULT_SECRET_ID=(str, ""),
    VAULT_APPROLE_MOUNT=(str, "approle"),
    VAULT_NAMESPACE=(str, ""),
    VAULT_CACERT=(str, ""),  # a file with the authority of Vault's certificate
    VAULT_TRANSIT_MOUNT=(str, "transit"),
    VAULT_TRANSIT_KEY=(str, "clawdbot"),
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
    AUTO_BLOCK_FAILURES=(int, 100),  # wrong signatures, passwords, keys of one network in the window; 0: never block
    AUTO_BLOCK_WINDOW_S=(int, 600),
    AUTO_BLOCK_FIRST_S=(int, 900),  # the first block; each further one within seven days is four times longer
    AUTO_BLOCK_LONGEST_S=(int, 86_400),
    REQUESTS_PER_MINUTE=(int, 6000),  # of one address to one site process, callbacks apart; 0: no limit
    TOKEN_REQUESTS_PER_MINUTE=(int, 120),  # to /api/v1/auth/
    METRICS_ALLOWED_NETWORKS=(list, ["127.0.0.0/8", "::1/128"]),
    METRICS_TOKEN=(str, ""),
    WORKER_METRICS_PORT=(int, 0),
    MFA_REQUIRED_ROLES=(list, []),  # roles, `staff` for all staff, or `none`; empty: none embedded, else `staff`
    COMBINE_DUTIES=(bool, False),  # whether one account may hold two of operator, security and auditor
    SESSION_IDLE_MINUTES=(int, -1),  # -1: off embedded, else 30; 0: off
    SESSION_LIFETIME_HOURS=(int, 0),  # 0: 14 days embedded, else 12
    AUDIT_SINKS=(list, []),  # where signed checkpoints of the audit log are copied; empty: file:<data dir>/audit
    AUDIT_RETENTION_DAYS=(int, 400),
    AUDIT_FORWARD_TO=(list, []),  # central receivers of every audit entry
    OUTBOUND_PROXY=(str, ""),
    OUTBOUND_ALLOWED_NETWORKS=(list, []),  # private networks that outgoing calls may reach
    EMAIL_URL=(str, ""),  # the mail server for alerts, smtp+tls://user:password@host:587/?from=…
    SCAN_RESULT=(str, "/var/cache/clawdbot-scan/result"),  # how deploy/scan.sh ended last on this machine
    LOG_DIR=(str, ""),
    LOG_ROTATION=(str, "daily"),  # daily: by ourselves; external: by logrotate
    LOG_FORMAT=(str, "console"),  # console or json
    LOG_LEVEL=(str, "INFO"),
    LOG_FORWARD_TO=(str, ""),  # a central syslog or OTLP receiver, besides standard output
    LOG_MASK_PERSONAL_DATA=(bool, True),  # phone and ID numbers, e-mail addresses, bank cards in log lines
    OTEL_EXPORTER_OTLP_ENDPOINT=(str, ""),  # a receiver of traces, https://host:4318; empty: no traces
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=(str, ""),  # or its whole address, https://host:4318/v1/traces
    OTEL_EXPORTER_OTLP_HEADERS=(str, ""),  # name=value,name=value, as its receiver wants them; a secret
    OTEL_EXPORTER_OTLP_CERTIFICATE=(str, ""),  # a file with the authority of its certificate
    OTEL_TRACES_SAMPLER=(str, "parentbased_always_on"),
    OTEL_TRACES_SAMPLER_ARG=(str, ""),  # the share, 0 to 1, of the samplers with a ratio
    OTEL_SDK_DISABLED=(bool, False),
    TRACE_URL=(str, ""),  # where a trace is looked at, with {trace_id} in it
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


def at_least(fewest: int, name: str) -> int:
    """A whole number; a smaller one stops the start."""
    number = int(env(name))
    if number < fewest:
        raise ImproperlyConfigured(f"{name}: at least {fewest}, not {number}.")
    return number


def mfa_required_roles() -> list[str]:
    """Of whom a second factor is asked. An unknown word stops the start: a misspelt role would ask nobody."""
    given = [word.strip() for word in env("MFA_REQUIRED_ROLES") if word.strip()]
    if unknown := sorted(set(given) - {*ROLES, "staff", "none"}):
        known = ", ".join((*ROLES, "staff", "none"))
        raise ImproperlyConfigured(f"MFA_REQUIRED_ROLES: {', '.join(unknown)} is no role. Known: {known}.")
    if not given:
        return [] if is_embedded() else ["staff"]
    return [word for word in given if word != "none"]


def session_idle_s() -> int:
    """0: sessions do not end by themselves before their lifetime."""
    minutes = int(env("SESSION_IDLE_MINUTES"))
    if minutes < 0:
        return 0 if is_embedded() else 30 * 60
    return minutes * 60


def session_lifetime_s() -> int:
    hours = int(env("SESSION_LIFETIME_HOURS")) or (14 * 24 if is_embedded() else 12)
    if hours < 1:
        raise ImproperlyConfigured("SESSION_LIFETIME_HOURS: at least 1.")
    return hours * 3600


def audit_retention_days() -> int:
    days = int(env("AUDIT_RETENTION_DAYS"))
    if days < SHORTEST_RETENTION_DAYS:
        raise ImproperlyConfigured(f"AUDIT_RETENTION_DAYS: at least {SHORTEST_RETENTION_DAYS}, not {days}.")
    return days


def base_url(name: str) -> str:
    """An http(s) address without its trailing slash, or an empty string."""
    url = str(env(name)).rstrip("/")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise ImproperlyConfigured(f"{name}: {redact(url)!r} is no address. Write it like https://host/path.")
    return url


def email(url: str) -> dict[str, Any]:
    """Django's settings of the mail server, without any where no address is given. ``?from=`` names the sender."""
    if not url:
        return {}
    plain, _mark, query = url.partition("?")
    schemes = ("smtp", "smtps", "smtp+tls", "smtp+ssl", "consolemail", "filemail", "memorymail")
    if urlsplit(plain).scheme not in schemes:
        raise ImproperlyConfigured("EMAIL_URL: write it like smtp+tls://user:password@host:587/?from=bots@example.com")
    config = dict(environ.Env.email_url_config(plain))
    sender = dict(parse_qsl(query)).get("from") or config.get("EMAIL_HOST_USER") or "clawdbot@localhost"
    return {**config, "DEFAULT_FROM_EMAIL": sender, "SERVER_EMAIL": sender, "EMAIL_TIMEOUT": 10}


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


def key_provider() -> str:
    name = str(env("KEY_PROVIDER")).strip().lower()
    if name not in ("env", "file", "vault"):
        raise ImproperlyConfigured(f"KEY_PROVIDER={name} is not supported. Use one of: env, file, vault.")
    return name


def encryption_keys_file() -> str:
    """With KEY_PROVIDER=file the path of the key-encryption keys, else empty; the embedded mode makes the file."""
    if key_provider() != "file":
        return ""
    if path := os.environ.get("FIELD_ENCRYPTION_KEYS_FILE", ""):
        return path
    if not is_embedded():
        raise ImproperlyConfigured("KEY_PROVIDER=file: name the file in FIELD_ENCRYPTION_KEYS_FILE.")
    generated("field-encryption-keys", new_encryption_key)
    return str((data_dir() / "field-encryption-keys").absolute())


def vault() -> dict[str, str]:
    """Where Vault is and who we are to it; all empty without VAULT_ADDR."""
    address = base_url("VAULT_ADDR")
    parts = urlsplit(address)
    if key_provider() == "vault" and not address:
        raise ImproperlyConfigured("KEY_PROVIDER=vault: set VAULT_ADDR, like https://vault.example.com:8200.")
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise ImproperlyConfigured("VAULT_ADDR must begin with https:// (http:// only for an agent on this machine).")
    token_file = os.environ.get("VAULT_TOKEN_FILE", "")
    found = {
        "address": address,
        "mount": str(env("VAULT_TRANSIT_MOUNT")).strip("/"),
        "key": str(env("VAULT_TRANSIT_KEY")),
        "namespace": str(env("VAULT_NAMESPACE")).strip("/"),
        "ca_file": str(env("VAULT_CACERT")),
        "token": "" if token_file or not address else str(env("VAULT_TOKEN")),
        "token_file": token_file,
        "role_id": str(env("VAULT_ROLE_ID")),
        "secret_id": str(env("VAULT_SECRET_ID")),
        "approle_mount": str(env("VAULT_APPROLE_MOUNT")).strip("/"),
    }
    _check_vault_access(found)
    return found


def _check_vault_access(found: dict[str, str]) -> None:
    if not found["address"]:
        return
    ways = [bool(found["token"] or found["token_file"]), bool(found["role_id"] and found["secret_id"])]
    if sum(ways) != 1:
        raise ImproperlyConfigured(
            "Vault: give either VAULT_TOKEN (or VAULT_TOKEN_FILE), or VAULT_ROLE_ID and VAULT_SECRET_ID."
        )
    if not re.fullmatch(r"[\w.-]+", found["key"]) or not re.fullmatch(r"[\w./-]+", found["mount"]):
        raise ImproperlyConfigured(
            "VAULT_TRANSIT_KEY and VAULT_TRANSIT_MOUNT: letters, digits, - _ . (and / in paths)."
        )


def encryption_keys() -> list[str]:
    """Key-encryption keys, newest first; each 32 bytes in base64. With another provider those to move away from."""
    if key_provider() == "file" or (key_provider() == "vault" and not env("FIELD_ENCRYPTION_KEYS")):
        return []
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
