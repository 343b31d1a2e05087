"""The client's address: the one reader of X-Forwarded-For.

Knows the TCP peer and which proxies are ours (``settings.TRUSTED_PROXIES``). Refuses to know what an address may do:
that is for the gate. Nothing in here raises on what a client sends; an address that cannot be told is "".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Scope = Mapping[str, Any]

FORWARDING_HEADERS = frozenset(
    {
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"forwarded",
        b"via",
    }
)
LONGEST_ADDRESS = 64  # characters, with port and zone
LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def client_ip(scope: Scope) -> str:
    """Return the canonical address of who sent this ASGI request, "" when it cannot be told."""
    return resolve(_peer(scope), _header_values(scope, b"x-forwarded-for"), trusted_proxies())


def has_forwarding_header(scope: Scope) -> bool:
    """Tell whether the request says that it came through a proxy, ours or anybody's."""
    return any(name.lower() in FORWARDING_HEADERS for name, _ in scope.get("headers", ()))


def is_direct(scope: Scope) -> bool:
    """False when an untrusted peer claims to forward: such a request is never local, whatever its peer."""
    return not has_forwarding_header(scope) or is_trusted_proxy(_peer(scope))


def is_trusted_proxy(text: str) -> bool:
    return _contains(trusted_proxies(), parse_address(text))


def is_own(text: str) -> bool:
    """Loopback and trusted proxies: behind them may be anybody, so nobody is shut out by them."""
    address = parse_address(text)
    return address is not None and (address.is_loopback or _contains(trusted_proxies(), address))


def holds_own(network_text: str) -> bool:
    """Whether loopback or a trusted proxy lies in a network."""
    network = parse_network(network_text)
    own = (*LOOPBACK, *trusted_proxies())
    return network is not None and any(one.version == network.version and one.overlaps(network) for one in own)


def resolve(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str:
    """Walk from the peer over the entries of X-Forwarded-For, right to left, as long as trusted proxies wrote them.

    An unreadable entry of a trusted proxy makes the address unknown (""): taking the proxy's own would let it in.
    """
    address = parse_address(peer)
    entries = [entry for value in forwarded if value.strip() for entry in value.split(",")]
    while entries and _contains(trusted, address):
        address = parse_address(entries.pop())
    return str(address) if address else ""


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """Read an address with or without port, brackets or zone; IPv4-mapped IPv6 becomes IPv4. None if it is none."""
    text = text.strip()
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        return fold(ipaddress.ip_address(_without_port(text).partition("%")[0]))
    except ValueError:
        return None


def fold(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=32)
def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Read CIDR texts; what is none is left out, so a mistake never trusts anybody (monitoring.checks reports it)."""
    return tuple(network for text in texts if (network := parse_network(text)))


def parse_network(text: str) -> Network | None:
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96 and network.subnet_of(MAPPED):
        mapped = network.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(mapped or 0), network.prefixlen - 96))
    return network


def in_networks(text: str, networks: Iterable[str]) -> bool:
    """Tell whether an address text lies in one of the CIDR texts; an unknown address lies in none."""
    return _contains(parse_networks(tuple(networks)), parse_address(text))


def trusted_proxies() -> tuple[Network, ...]:
    return parse_networks(tuple(getattr(settings, "TRUSTED_PROXIES", ())))


def scope_of(request: HttpRequest) -> Scope:
    """Return the ASGI scope of a Django request, or what this module reads of it when it came by WSGI."""
    scope: Scope | None = getattr(request, "scope", None)
    if scope is not None:
        return scope
    names = ((key[5:].replace("_", "-").lower(), value) for key, value in request.META.items() if key[:5] == "HTTP_")
    headers = [(name.encode("latin-1", "replace"), str(value).encode("latin-1", "replace")) for name, value in names]
    return {"client": (request.META.get("REMOTE_ADDR", ""), 0), "headers": headers}


def _peer(scope: Scope) -> str:
    """The TCP peer; "" behind a Unix socket."""
    client = scope.get("client") or ("",)
    return str(client[0] or "")


def _header_values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope.get("headers", ()) if name.lower() == wanted]


def _without_port(text: str) -> str:
    if text.startswith("["):
        inside, bracket, after = text[1:].partition("]")
        return inside if bracket and (not after or _is_port(after)) else ""
    host, colon, _ = text.rpartition(":")
    if colon and "." in text and ":" not in host:
        return host if _is_port(text[len(host) :]) else ""
    return text


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit() and len(text) <= 6


def _contains(networks: Iterable[Network], address: Address | None) -> bool:
    return address is not None and any(address in network for network in networks)
