"""Calls to HashiCorp Vault (or OpenBao): address, token, errors in words. Knows no transit engine and no data key.

The token is a static one, one in a file that an agent keeps fresh (read at each call), or comes from AppRole.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx

from clawdbot_site.security.key_providers.base import KeysUnavailable
from clawdbot_site.security.outbound import DEFAULT_PORTS, OutboundRefused, guarded_client
from monitoring.redaction import redact
from monitoring.text import printable

logger = logging.getLogger(__name__)

TIMEOUT: Final = httpx.Timeout(5.0, connect=3.0)
ONE_BY_ONE: Final = httpx.Limits(max_keepalive_connections=0)  # calls are days apart
START_PATIENCE_S: Final = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 3.0
# Vault's own: 412 is behind, 429 too many (or a standby), 472 and 473 standby, 5xx ill, 503 sealed or starting.
PASSING: Final = frozenset({412, 429, 472, 473, 500, 502, 503, 504})
ADVICE: Final = "See docs/operations.md, Vault."
_patience_s: ContextVar[float] = ContextVar("vault patience", default=0.0)


class VaultTrouble(KeysUnavailable):
    """A call to Vault failed; ``may_pass`` means that trying again can help."""

    def __init__(self, message: str, *, status: int = 0, may_pass: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.may_pass = may_pass


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where a Vault is and who we are to it, as the settings say."""

    address: str
    mount: str
    key: str
    namespace: str = ""
    ca_file: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    role_id: str = ""
    secret_id: str = field(default="", repr=False)
    approle_mount: str = "approle"

    @property
    def origin(self) -> str:
        url = httpx.URL(self.address)
        return f"{url.host}:{url.port or DEFAULT_PORTS[url.scheme]}"


@contextmanager
def patiently(seconds: float = START_PATIENCE_S) -> Iterator[None]:
    """At a start: what may pass is tried again for so long. Elsewhere somebody waits, and there is one try."""
    set_before = _patience_s.set(seconds)
    try:
        yield
    finally:
        _patience_s.reset(set_before)


class VaultHttp:
    """Thread-safe."""

    def __init__(self, place: VaultPlace) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._role_token = ""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer's ``data``. Raises VaultTrouble."""
        end, pause_s = time.monotonic() + _patience_s.get(), FIRST_PAUSE_S
        while True:
            try:
                return dict(self._signed_in(method, path, body).get("data") or {})
            except VaultTrouble as trouble:
                if not trouble.may_pass or time.monotonic() + pause_s > end:
                    raise
                logger.warning("Vault does not answer yet", extra={"reason": str(trouble)})
            time.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  (no secret)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def renew(self) -> None:
        """Prolong a token that is not ours to get anew. Raises VaultTrouble."""
        if self.place.token and not self.place.role_id:
            self._exchange("POST", "auth/token/renew-self", {}, self.place.token)

    def _signed_in(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        token = self._token()
        try:
            return self._exchange(method, path, body, token)
        except VaultTrouble as trouble:
            if trouble.status != 403 or not self.place.role_id:
                raise
        return self._exchange(method, path, body, self._log_in(instead_of=token))  # the token may have expired

    def _token(self) -> str:
        place = self.place
        if place.role_id:
            return self._role_token or self._log_in(instead_of="")
        if not place.token_file:
            return place.token
        try:
            return Path(place.token_file).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise VaultTrouble(f"The token of Vault cannot be read from {place.token_file}. {ADVICE}") from None

    def _log_in(self, instead_of: str) -> str:
        with self._lock:
            if self._role_token != instead_of:
                return self._role_token  # another thread was faster
            given = {"role_id": self.place.role_id, "secret_id": self.place.secret_id}
            answer = self._exchange("POST", f"auth/{self.place.approle_mount}/login", given, "")
            self._role_token = str((answer.get("auth") or {}).get("client_token") or "")
        if not self._role_token:
            raise VaultTrouble(f"Vault at {self.place.address} gave no token for the AppRole. {ADVICE}")
        return self._role_token

    # -- one exchange --

    @cached_property
    def _http(self) -> httpx.Client:
        try:
            return guarded_client(
                timeout=TIMEOUT,
                limits=ONE_BY_ONE,
                ca_file=self.place.ca_file,
                trusted_origin=self.place.origin,
            )
        except (OSError, ssl.SSLError):
            raise VaultTrouble(f"VAULT_CACERT: {self.place.ca_file} holds no certificate that can be read.") from None

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None, token: str) -> dict[str, Any]:
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self.place.namespace:
            headers["X-Vault-Namespace"] = self.place.namespace
        try:
            response = self._http.request(method, f"{self.place.address}/v1/{path}", json=body, headers=headers)
        except httpx.HTTPError as error:
            raise self._not_reached(error) from None
        if not response.is_success:
            raise self._refused(path, response)
        return self._read(response)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json() if response.content else {}
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise VaultTrouble(f"What answers at {self.place.address} is no Vault. Check VAULT_ADDR.")
        return answer

    def _not_reached(self, error: httpx.HTTPError) -> VaultTrouble:
        where = f"Vault at {self.place.address}"
        if isinstance(error, OutboundRefused):
            return VaultTrouble(str(error))
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return VaultTrouble(f"{where} shows a certificate that nobody here trusts. Set VAULT_CACERT.")
        if isinstance(error, httpx.TimeoutException):
            return VaultTrouble(f"{where} does not answer in time.", may_pass=True)
        return VaultTrouble(f"{where} cannot be reached: {printable(str(error))[:200]}", may_pass=True)

    def _refused(self, path: str, response: httpx.Response) -> VaultTrouble:
        status, said = response.status_code, _said(response)
        where = f"Vault at {self.place.address}"
        texts = {
            403: f"{where} refuses {path}: the token is wrong or has expired, or its policy does not allow this",
            404: f"{where} has no {path}: check VAULT_TRANSIT_MOUNT, VAULT_TRANSIT_KEY and VAULT_NAMESPACE",
            503: f"{where} is sealed or is starting",
        }
        if 300 <= status < 400:
            text = f"{where} is a standby that points elsewhere: name the active one, or one that forwards"
        else:
            text = texts.get(status, f"{where} answers {status} to {path}")
        return VaultTrouble(f"{text}{said}. {ADVICE}", status=status, may_pass=status in PASSING)


def _said(response: httpx.Response) -> str:
    """Vault's own words, which quote no secret; shortened, and with anything that looks like one taken out."""
    try:
        errors = response.json()["errors"]
    except (ValueError, KeyError, TypeError):
        return ""
    words = "; ".join(str(one).strip() for one in errors if str(one).strip()) if isinstance(errors, list) else ""
    return f" ({printable(redact(words))[:200]})" if words else ""
