"""Guarded WebSockets to the platforms, by the same rules as the HTTP client: judged addresses, verified certificates,
no redirects, OUTBOUND_PROXY for what is public. Knows no platform and no frame.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Sequence
from functools import cache
from typing import Any

import httpx
from channels.db import DatabaseSyncToAsync
from django.conf import settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.uri import WebSocketURI, parse_uri

from clawdbot_site.security.outbound import OutboundRefused, is_public, resolve
from integrations.errors import PlatformError

DIAL_S = 15.0
OPTIONS: dict[str, Any] = {
    "compression": None,  # frames are small, and nothing can blow up while it unpacks
    "max_size": 1024 * 1024,
    "ping_interval": 20,
    "ping_timeout": 30,  # slow networks are no dead ones
    "close_timeout": 1,
    "user_agent_header": "ClawdBot",
}
_wire = logging.getLogger(f"{__name__}.wire")
_wire.setLevel(logging.WARNING)  # at DEBUG the library writes down addresses, and their tickets are secrets


async def dial(url: str, *, may_be_plain: bool = False) -> ClientConnection:
    """Open a WebSocket. Raises PlatformError, ``permanent`` when only an admin can help.

    ``may_be_plain``: ws:// will do, because an admin chose http:// for this platform.
    """
    try:
        async with asyncio.timeout(DIAL_S):
            return await _open(url, may_be_plain)
    except OutboundRefused as problem:
        raise PlatformError(str(problem), permanent=True) from problem
    except (OSError, UnicodeError, WebSocketException) as problem:
        reason = type(problem).__name__  # never its text: it may hold the address with its ticket
        raise PlatformError(f"The platform's gateway was not reached ({reason}); it is tried again.") from problem


async def _open(url: str, may_be_plain: bool) -> ClientConnection:
    uri = parse_uri(url)
    if not (uri.secure or may_be_plain):
        raise PlatformError("The platform named a gateway without encryption (ws://); it is not used.", permanent=True)
    where: dict[str, Any] = {"ssl": _certificates()} if uri.secure else {}
    addresses, proxy = await _route(uri)
    if proxy:
        return await _Connect(url, proxy=proxy, logger=_wire, **where, **OPTIONS)
    for address in addresses[:-1]:
        try:
            return await _at(address, url, uri, where)
        except OSError:
            continue
    return await _at(addresses[-1], url, uri, where)


async def _at(address: str, url: str, uri: WebSocketURI, where: dict[str, Any]) -> ClientConnection:
    """Connects to an address that was judged; certificate and Host header are still those of the name."""
    return await _Connect(url, host=address, port=uri.port, proxy=None, logger=_wire, **where, **OPTIONS)


async def _route(uri: WebSocketURI) -> tuple[Sequence[str], str]:
    """The addresses to connect to, or the proxy: for public addresses, and names that only it may resolve."""
    try:
        addresses = await DatabaseSyncToAsync(resolve, thread_sensitive=False)(uri.host, uri.port)
    except (OSError, UnicodeError):
        if settings.OUTBOUND_PROXY:
            return (), settings.OUTBOUND_PROXY
        raise
    reaches_all = all(is_public(ipaddress.ip_address(address.partition("%")[0])) for address in addresses)
    return addresses, settings.OUTBOUND_PROXY if reaches_all else ""


@cache
def _certificates() -> ssl.SSLContext:
    """As the HTTP client: httpx's bundle of authorities and the system's own."""
    context = httpx.create_ssl_context(verify=True, trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    return context


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc
