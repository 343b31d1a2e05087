"""The HTTP client for all outgoing calls: it reaches public addresses and those that the settings allow (rule L6).

A name is resolved once, every address it stands for is judged, and the connection goes to an address that was judged:
a name cannot change its meaning in between. Certificates are always verified, redirects never followed, and neither
can be turned off (rule E13).
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, cast

import httpcore
import httpx
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.models.exemption import OutboundExemption

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
FIXED_OPTIONS: Final = {"verify", "cert", "trust_env", "follow_redirects", "transport", "mounts", "proxy", "http2"}
HOST: Final = re.compile(rb"[a-z0-9._:-]+", re.ASCII)  # as httpx normalises it; zone ids (%) have no business here
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Cloud metadata services give out credentials; no list of networks opens them.
METADATA: Final = frozenset(
    map(ipaddress.ip_address, ["169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254"])
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
HTTPCORE_ERRORS: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class OutboundRefused(httpx.ConnectError):
    """An outgoing call to an address that is neither public nor allowed. The message says what to set."""

    permanent = True


class UnsafeAddress(ValidationError, ValueError):
    """An address that cannot be entered; the message says why, and what to do if it is meant."""


def guarded_client(
    *, limits: httpx.Limits | None = None, ca_file: str = "", trusted_origin: str = "", **httpx_options: Any
) -> httpx.Client:
    """Return a pooled, thread-safe httpx client. Takes httpx's options, except those that would open the guard.

    ``ca_file`` holds one more authority to believe, for this client alone. Raises OSError when it cannot be read.
    ``trusted_origin`` (host:port, from a setting) may be private, for this client alone.
    """
    if refused := FIXED_OPTIONS.intersection(httpx_options):
        raise TypeError(f"guarded_client decides {', '.join(sorted(refused))} itself.")
    usual = httpx.Limits(max_connections=100, max_keepalive_connections=20)
    transport = GuardedTransport(limits or usual, ca_file, trusted_origin)
    return _Client(transport=transport, trust_env=False, follow_redirects=False, **httpx_options)


def post_json(url: str, body: dict[str, Any], timeout_s: float = 5.0) -> None:
    """One call, for who makes few. Raises httpx.HTTPError for whatever is no 2xx."""
    with guarded_client(timeout=timeout_s) as client:
        client.post(url, json=body).raise_for_status()


def resolve(host: str, port: int, trusted_origin: str = "") -> list[str]:
    """Return the addresses of a host, all of which may be called. Raises OutboundRefused, OSError.

    For connections that are not HTTP requests: connect to these and not to the name.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    is_trusted = bool(trusted_origin) and _origin(host, port) == trusted_origin.lower()
    if not is_trusted and (refused := _first_refused(host, port, addresses)):
        raise OutboundRefused(str(_advice(host, refused)))
    return addresses


def check_url(url: str) -> None:
    """Refuse what can never be called, when it is entered. Names are judged later, by the addresses they stand for."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise UnsafeAddress(_("This is no address. Write it like https://host/path."), "invalid") from None
    if parsed.scheme not in DEFAULT_PORTS or not HOST.fullmatch(parsed.raw_host) or (parsed.port or 1) > 65535:
        raise UnsafeAddress(_("An address starts with https:// (or http://) and a host."), "invalid")
    if parsed.userinfo:
        raise UnsafeAddress(_("Take name and password out of the address; secrets have fields of their own."), "secret")
    _check_host(parsed.host, parsed.port or DEFAULT_PORTS[parsed.scheme])


def _check_host(host: str, port: int) -> None:
    literal = _literal(host)
    if literal and _first_refused(host, port, [literal]):
        raise UnsafeAddress(_advice(host, literal), "private")


def _literal(host: str) -> str:
    """The address that a host is by itself, in any form that the system's resolver takes (0x7f.1, 2130706433)."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "127.0.0.1"
    if ":" in host:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return ""


# -- the decision --


def _first_refused(host: str, port: int, addresses: Iterable[str]) -> str:
    """The first address that may not be called, or an empty string."""
    if _origin(host, port) in {origin.lower() for origin in settings.OUTBOUND_TRUSTED_ORIGINS}:
        return ""
    return next((address for address in addresses if not _may_call(host, port, address)), "")


def _may_call(host: str, port: int, address: str) -> bool:
    parsed = _parse(address)
    if parsed in METADATA:
        return False
    networks = _networks(tuple(settings.OUTBOUND_ALLOWED_NETWORKS))
    if is_public(parsed) or any(parsed in network for network in networks):
        return True
    return parsed.is_loopback and OutboundExemption.objects.live(host, port).exists()


def is_public(address: Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _parse(address: str) -> Address:
    """Without a zone id; IPv6 that only carries an IPv4 address (mapped, 6to4, NAT64) is that IPv4 address."""
    parsed = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    if isinstance(parsed, IPv4Address):
        return parsed
    if parsed in NAT64:
        return IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed.ipv4_mapped or parsed.sixtofour or parsed


@functools.lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def _origin(host: str, port: int) -> str:
    return f"{host.strip('[]').lower()}:{port}"


def _advice(host: str, address: str) -> Any:
    if _parse(address) in METADATA:
        return _("%(host)s is a cloud metadata address, which is never called.") % {"host": host}
    return _(
        "%(host)s stands for %(address)s, which is not a public address. If that is meant, add its network to "
        "OUTBOUND_ALLOWED_NETWORKS."
    ) % {"host": host, "address": _parse(address)}


# -- the client --


class _Client(httpx.Client):
    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return super().send(request, **{**options, "follow_redirects": False})


class GuardedBackend(httpcore.SyncBackend):
    """Opens connections for httpcore, which still checks certificates against the name."""

    def __init__(self, trusted_origin: str = "") -> None:
        self._trusted_origin = trusted_origin

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Try the addresses of the host in turn. Raises OutboundRefused, and what httpcore raises."""
        try:
            addresses = resolve(host, port, self._trusted_origin)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that no DNS name can have
            raise httpcore.ConnectError(f"{host} is not known: {error}") from error
        for address in addresses[:-1]:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    def connect_unix_socket(self, path: str, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        raise OutboundRefused("Outgoing calls go to addresses, not to sockets.")


class GuardedTransport(httpx.BaseTransport):
    """httpx over a guarded pool. With OUTBOUND_PROXY, calls to public addresses go through it.

    The proxy then resolves the name a second time, so the pin ends there: the proxy's own rules take over.
    """

    def __init__(self, limits: httpx.Limits, ca_file: str = "", trusted_origin: str = "") -> None:
        self._trusted_origin = trusted_origin
        common: dict[str, Any] = {
            "ssl_context": _ssl_context(ca_file),
            "max_connections": limits.max_connections,
            "max_keepalive_connections": limits.max_keepalive_connections,
            "keepalive_expiry": limits.keepalive_expiry,
        }
        self._direct = httpcore.ConnectionPool(network_backend=GuardedBackend(trusted_origin), **common)
        proxy = settings.OUTBOUND_PROXY
        self._proxied = httpcore.HTTPProxy(proxy_url=proxy, **common) if proxy else None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
        )
        core_request = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
        )
        with _as_httpx_errors():
            response = self._pool_for(request.url).handle_request(core_request)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Stream(cast("Iterable[bytes]", response.stream)),
            extensions=response.extensions,
        )

    def _pool_for(self, url: httpx.URL) -> httpcore.ConnectionPool:
        """The proxy's for public addresses, and for names that only the proxy may be able to resolve."""
        if self._proxied is None:
            return self._direct
        try:
            addresses = resolve(url.host, url.port or DEFAULT_PORTS.get(url.scheme, 0), self._trusted_origin)
        except (OSError, UnicodeError):
            return self._proxied
        return self._proxied if all(is_public(_parse(address)) for address in addresses) else self._direct

    def close(self) -> None:
        self._direct.close()
        if self._proxied is not None:
            self._proxied.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx_errors():
            yield from self._stream

    def close(self) -> None:
        if hasattr(self._stream, "close"):
            self._stream.close()


def _ssl_context(ca_file: str) -> ssl.SSLContext:
    """httpx's bundle of authorities and the system's own: that is where a company adds its own."""
    context = httpx.create_ssl_context(verify=True, trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


@contextmanager
def _as_httpx_errors() -> Iterator[None]:
    """httpx knows each of httpcore's errors under the same name."""
    try:
        yield
    except HTTPCORE_ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
