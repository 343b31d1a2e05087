"""The rules that a cloud's firewall needs for this site, from its settings alone. Pure: settings in, rules out.

A security group remembers connections: it needs only who may come in. A network ACL does not: it also needs what goes
out, and the answers in both directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

EVERYWHERE: Final = ""
ANSWERS: Final = (1024, 65535)  # ports that clients, and we as one, are answered on
SSH, HTTP, HTTPS, DNS, NTP = 22, 80, 443, 53, 123
FIRST_PRIORITY, STEP = 100, 10


@dataclass(frozen=True, slots=True)
class Place:
    """What the settings say of where the site is. ``calls`` are addresses that it calls, as URLs."""

    host: str
    port: int
    public_url: str
    proxies: tuple[str, ...] = ()
    metrics_networks: tuple[str, ...] = ()
    worker_metrics_port: int = 0
    calls: tuple[str, ...] = ()
    ssh_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    ports: tuple[int, int]
    network: str = EVERYWHERE
    protocol: str = "TCP"
    policy: str = "accept"

    def shown(self, priority: int, **more: str) -> dict[str, Any]:
        first, last = self.ports
        rule = {"port_range": f"{first}/{last}", "protocol": self.protocol, "policy": self.policy, "priority": priority}
        return rule | ({"cidr_ip": self.network} if self.network else {}) | more


def security_group(place: Place, name: str) -> dict[str, Any]:
    """Who may come in; everything else is refused by the group itself."""
    return {"name": name, "rules": [rule.shown(priority) for priority, rule in _numbered(_incoming(place))]}


def network_acl(place: Place, name: str) -> dict[str, Any]:
    """Both directions, the answers included, and a last rule that refuses the rest."""
    rest = Rule((1, 65535), protocol="ALL", policy="drop")
    incoming = [*_incoming(place), Rule(ANSWERS), Rule(ANSWERS, protocol="UDP"), rest]
    outgoing = [*_outgoing(place), Rule(ANSWERS), rest]
    sides = (("ingress", incoming), ("egress", outgoing))
    rules = [rule.shown(at, direction=side) for side, all_ in sides for at, rule in _numbered(all_)]
    return {"name": name, "rules": rules}


def _incoming(place: Place) -> Iterator[Rule]:
    if place.public_url.startswith("https://"):
        yield _port(urlsplit(place.public_url).port or HTTPS)
        yield _port(HTTP)  # leads to https, and proves the name to the certificate's authority
    if not _is_loopback(place.host):
        behind = [network for network in place.proxies if not _is_loopback(network)]
        yield from _from_each(place.port, behind or ([] if place.proxies else [EVERYWHERE]))
        yield from _from_each(place.port, _elsewhere(place.metrics_networks) if place.proxies else [])
    if place.worker_metrics_port:
        yield from _from_each(place.worker_metrics_port, _elsewhere(place.metrics_networks))
    yield from _from_each(SSH, place.ssh_networks)


def _outgoing(place: Place) -> Iterator[Rule]:
    yield from sorted(
        {rule for url in place.calls if (rule := _called(url))}, key=lambda rule: (rule.ports, rule.network)
    )
    yield Rule((DNS, DNS), protocol="UDP")
    yield _port(DNS)
    yield Rule((NTP, NTP), protocol="UDP")


def _called(url: str) -> Rule | None:
    """Names may stand for any address; a literal one is named."""
    parts = urlsplit(url)
    default = {"http": HTTP, "https": HTTPS, "postgres": 5432, "redis": 6379, "rediss": 6379}.get(parts.scheme)
    port = parts.port or default
    if not port or not parts.hostname or _is_loopback(parts.hostname):
        return None
    return Rule((port, port), _literal(parts.hostname))


def _literal(host: str) -> str:
    try:
        return str(ip_network(ip_address(host)))
    except ValueError:
        return EVERYWHERE


def _numbered(rules: Iterable[Rule]) -> Iterator[tuple[int, Rule]]:
    unique = list(dict.fromkeys(rules))
    return ((FIRST_PRIORITY + STEP * at, rule) for at, rule in enumerate(unique))


def _port(number: int, network: str = EVERYWHERE) -> Rule:
    return Rule((number, number), network)


def _from_each(port: int, networks: Iterable[str]) -> Iterator[Rule]:
    return (_port(port, network) for network in networks)


def _elsewhere(networks: Iterable[str]) -> list[str]:
    return [network for network in networks if not _is_loopback(network)]


def _is_loopback(text: str) -> bool:
    network = None if text in ("", "localhost") else _network(text)
    return text == "localhost" or (network is not None and network.is_loopback)


def _network(text: str) -> Any:
    try:
        return ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
