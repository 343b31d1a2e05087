"""A strict fake of HashiCorp Vault on a real TLS socket: transit, tokens with an end, AppRole, policies, the seal.

with FakeVault(tmp_path) as vault:
    vault.address, vault.ca_file, vault.root_token

What it refuses, and in which words, is Vault's own: 403 "permission denied", 503 "Vault is sealed", 400 for a
ciphertext that is not its own, 404 with no errors for a path that is not there.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.servers.tls import certificate

Json = dict[str, Any]
ALL = frozenset({"transit/encrypt", "transit/decrypt", "transit/rewrap", "transit/keys"})


class Refusal(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status, self.errors = status, list(errors)


@dataclass
class TransitKey:
    versions: list[bytes] = field(default_factory=lambda: [os.urandom(32)])
    oldest: int = 1

    def encrypt(self, data: bytes) -> str:
        nonce = os.urandom(12)
        sealed = nonce + AESGCM(self.versions[-1]).encrypt(nonce, data, None)
        return f"vault:v{len(self.versions)}:{base64.b64encode(sealed).decode()}"

    def decrypt(self, ciphertext: str) -> bytes:
        parts = ciphertext.split(":")
        if len(parts) != 3 or parts[0] != "vault" or not parts[1].startswith("v"):
            raise Refusal(400, "invalid ciphertext: no prefix")
        version = int(parts[1][1:])
        if version < self.oldest:
            raise Refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
        try:
            raw = base64.b64decode(parts[2], validate=True)
            return AESGCM(self.versions[version - 1]).decrypt(raw[:12], raw[12:], None)
        except (InvalidTag, ValueError, IndexError):
            raise Refusal(400, "cipher: message authentication failed") from None


class FakeVault:
    def __init__(self, folder: Path, namespace: str = "") -> None:
        self.crt, self._key_file = certificate(folder)
        self.namespace = namespace
        self.root_token = f"hvs.{secrets.token_urlsafe(24)}"
        self.tokens: dict[str, frozenset[str]] = {self.root_token: ALL}
        self.roles: dict[str, str] = {}
        self.transit = {"clawdbot": TransitKey()}
        self.is_sealed = False
        self.answers: list[Callable[[], tuple[int, bytes]]] = []  # given first, one each, instead of the real thing
        self.asked: list[str] = []
        self.renewed: list[str] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.vault = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.crt, self._key_file)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def ca_file(self) -> str:
        return str(self.crt)

    @property
    def origin(self) -> str:
        return f"localhost:{self._server.server_address[1]}"

    @property
    def address(self) -> str:
        return f"https://{self.origin}"

    def settings(self, **more: str) -> dict[str, str]:
        """As settings.VAULT has them, with the root token unless another way is given."""
        empty = dict.fromkeys(["namespace", "token", "token_file", "role_id", "secret_id"], "")
        place = {"address": self.address, "mount": "transit", "key": "clawdbot", "ca_file": self.ca_file}
        token = {} if {"token", "token_file", "role_id"} & more.keys() else {"token": self.root_token}
        return {**empty, **place, "approle_mount": "approle", **token, **more}

    def rotate(self, name: str = "clawdbot") -> None:
        self.transit[name].versions.append(os.urandom(32))

    def role(self) -> dict[str, str]:
        """A new AppRole; what ``settings`` takes."""
        role_id, secret_id = secrets.token_hex(8), secrets.token_hex(16)
        self.roles[role_id] = secret_id
        return {"role_id": role_id, "secret_id": secret_id}

    def expire_tokens(self) -> None:
        self.tokens.clear()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # -- what it answers --

    def answer(self, method: str, path: str, headers: Any, body: Json) -> Json:
        if self.is_sealed:
            raise Refusal(503, "Vault is sealed")
        if headers.get("X-Vault-Request") != "true":
            raise Refusal(412, "required 'X-Vault-Request' header is missing")
        if (headers.get("X-Vault-Namespace") or "") != self.namespace:
            raise Refusal(404)
        if (method, path) == ("POST", "auth/approle/login"):
            return self._log_in(body)
        token = headers.get("X-Vault-Token") or ""
        if token not in self.tokens:
            raise Refusal(403, "permission denied", "invalid token")
        if (method, path) == ("POST", "auth/token/renew-self"):
            self.renewed.append(token)
            return {"auth": {"client_token": token}}
        return {"data": self._transit(method, path, body, self.tokens[token])}

    def _log_in(self, body: Json) -> Json:
        if self.roles.get(str(body.get("role_id"))) != body.get("secret_id"):
            raise Refusal(400, "invalid role or secret ID")
        token = f"hvs.{secrets.token_urlsafe(24)}"
        self.tokens[token] = ALL
        return {"auth": {"client_token": token, "lease_duration": 3600, "renewable": True}}

    def _transit(self, method: str, path: str, body: Json, allowed: frozenset[str]) -> Json:
        word, _, name = path.rpartition("/")
        if word not in allowed:
            raise Refusal(403, "1 error occurred:\n\t* permission denied\n\n")
        key = self.transit.get(name)
        if key is None:
            raise Refusal(404) if word == "transit/keys" else Refusal(400, "encryption key not found")
        if (method, word) == ("GET", "transit/keys"):
            versions = {str(n + 1): 1_700_000_000 + n for n in range(key.oldest - 1, len(key.versions))}
            return {"name": name, "keys": versions, "min_decryption_version": key.oldest, "type": "aes256-gcm96"}
        if method != "POST":
            raise Refusal(405)
        return self._transform(word.removeprefix("transit/"), key, body)

    def _transform(self, word: str, key: TransitKey, body: Json) -> Json:
        if word == "encrypt":
            return {"ciphertext": key.encrypt(_decoded(body)), "key_version": len(key.versions)}
        opened = key.decrypt(str(body.get("ciphertext", "")))
        if word == "rewrap":
            return {"ciphertext": key.encrypt(opened), "key_version": len(key.versions)}
        return {"plaintext": base64.b64encode(opened).decode()}


def _decoded(body: Json) -> bytes:
    try:
        return base64.b64decode(body["plaintext"], validate=True)
    except (KeyError, TypeError, ValueError):
        raise Refusal(400, "failed to base64-decode plaintext") from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    vault: FakeVault

    def handle_error(self, *_: object) -> None:
        """A client that does not trust the certificate hangs up: that is a test's wish."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        vault, path = self.server.vault, self.path.removeprefix("/v1/")
        vault.asked.append(f"{self.command} {path}")
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if vault.answers:
            self._send(*vault.answers.pop(0)())
            return
        try:
            answer = vault.answer(self.command, path, self.headers, json.loads(raw) if raw else {})
        except Refusal as refusal:
            self._send(refusal.status, json.dumps({"errors": refusal.errors}).encode())
            return
        self._send(200, json.dumps(answer).encode())

    do_GET = do_POST = _serve

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
