"""The TLS of our own public address, seen from outside. Certificates are always verified (rule E13)."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from typing import Final
from urllib.parse import urlsplit

TIMEOUT_S: Final = 5.0
DAY_S: Final = 86_400


def host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def days_left(host: str, port: int) -> int:
    """Whole days until the certificate ends. Raises OSError (ssl.SSLError is one) when it does not verify."""
    certificate = _shaken(host, port, _context())
    return int((ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) // DAY_S)


def takes_old_protocols(host: str, port: int) -> bool:
    """Whether TLS 1.0 or 1.1 gets an answer. Where our own library knows them no more, nobody can say: False."""
    context = _context()
    with warnings.catch_warnings():  # Python warns of the very protocols that we look for
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        _shaken(host, port, context)
    except OSError:
        return False
    return True


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shaken(host: str, port: int, context: ssl.SSLContext) -> dict[str, object]:
    with (
        socket.create_connection((host, port), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return dict(secured.getpeercert() or {})
