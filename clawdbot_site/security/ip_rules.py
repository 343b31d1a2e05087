"""The decision who may come in: rules and an address in, a verdict out. Knows no database, no request and no clock.

A rule applies to the whole site, or to one part of it (admin, api, webhooks), or to the callbacks of one endpoint.
All rules that apply to a visit are asked:

1. A block that holds the address refuses it, whatever is allowed.
2. Each list of allowed networks that is not empty must hold the address: the site's, the part's and the endpoint's.
3. What is left may come in.

A rule on trial (``is_dry_run``) decides nothing: ``trial`` tells what the verdict would be if it counted.
Expired rules do not exist. IPv4-mapped IPv6 is IPv4; otherwise the families are kept apart. An address that cannot be
read is refused as soon as any rule applies to the visit.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

V4, V6 = 32, 128
MAPPED_PREFIX = 0xFFFF << 32  # ::ffff:0:0/96

Family = int  # how many bits an address has
Reason = Literal["no rule", "allowed", "blocked", "not in the allow list", "unreadable address"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row, as the decision needs it; ``network`` is in the form that ``normalise`` gives."""

    id: str
    action: str
    network: str
    scope: str
    endpoint_id: UUID | None = None
    expires_at: datetime | None = None
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    rule_id: str | None = None
    reason: Reason = "no rule"


def normalise(text: str) -> str:
    """A network in its one form: no host bits, IPv4-mapped folded to IPv4. Raises ValueError."""
    if "%" in text:
        raise ValueError("a network has no zone")
    network = ipaddress.ip_network(text.strip(), strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        return f"{mapped}/{network.prefixlen - 96}" if mapped else str(network)
    return str(network)


def parse_address(text: str) -> tuple[Family, int] | None:
    """Family and number of an address; None if it is none. A zone (``%eth0``) is left out."""
    try:
        if ":" not in text:
            return V4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, text.partition("%")[0]), "big")
    except (OSError, ValueError):
        return None
    return (V4, number & 0xFFFFFFFF) if number >> 32 == MAPPED_PREFIX >> 32 else (V6, number)


def caller_of(address: str) -> str:
    """The network that counts as one caller: an IPv4 address, or an IPv6 /64, which is what one customer gets."""
    family, number = parse_address(address) or (0, 0)
    if family == V6:
        return f"{ipaddress.IPv6Address(number >> 64 << 64)}/64"
    return f"{ipaddress.IPv4Address(number)}/32" if family else ""


def _parse_network(text: str) -> tuple[Family, int, int]:
    """(family, prefix length, the prefix as a number) of a normalised network."""
    address, _, length = text.partition("/")
    number = int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), "big")
    family: Family = V6 if ":" in address else V4
    return family, int(length), number >> (family - int(length))


@dataclass(slots=True)
class _Networks:
    """The networks of one action: for each family and prefix length, prefix -> (rule, end)."""

    tables: dict[Family, dict[int, dict[int, tuple[str, float]]]] = field(default_factory=lambda: {V4: {}, V6: {}})
    last_end: float = -math.inf

    def add(self, rule: Rule) -> None:
        family, length, prefix = _parse_network(rule.network)
        end = rule.expires_at.timestamp() if rule.expires_at else math.inf
        table = self.tables[family].setdefault(length, {})
        if prefix not in table or table[prefix][1] < end:
            table[prefix] = (rule.id, end)
        self.last_end = max(self.last_end, end)

    def sort(self) -> None:
        """Longest prefix first, so that the narrowest rule is the one that is named and counted."""
        for family, tables in self.tables.items():
            self.tables[family] = dict(sorted(tables.items(), reverse=True))

    def is_in_force(self, now: float) -> bool:
        return self.last_end > now

    def find(self, address: tuple[Family, int], now: float) -> str | None:
        family, number = address
        for length, table in self.tables[family].items():
            found = table.get(number >> (family - length))
            if found and found[1] > now:
                return found[0]
        return None


@dataclass(slots=True)
class _List:
    block: _Networks = field(default_factory=_Networks)
    allow: _Networks = field(default_factory=_Networks)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Compiled rules. A look-up costs one dictionary access per prefix length in use, however many rules there are."""

    lists: dict[tuple[str, UUID | None], _List] = field(default_factory=dict)
    trial: RuleSet | None = None  # all rules, those on trial as well; None when there are none of them

    def knows(self, endpoint_id: UUID) -> bool:
        """Whether any rule, on trial or not, names this endpoint."""
        return ("webhooks", endpoint_id) in (self.trial or self).lists

    def decide(
        self, address: str, scope: str, endpoint_id: UUID | None = None, *, now: float | None = None
    ) -> Decision:
        """Whether ``address`` may visit ``scope``; ``now`` is a Unix time and only given by tests."""
        moment = time.time() if now is None else now
        lists = list(self._applying(scope, endpoint_id, moment))
        if not lists:
            return Decision(True)
        parsed = parse_address(address)
        return _judge(parsed, lists, moment) if parsed else Decision(False, None, "unreadable address")

    def _applying(self, scope: str, endpoint_id: UUID | None, now: float) -> Iterator[_List]:
        keys = dict.fromkeys([("site", None), (scope, None), (scope, endpoint_id)])
        for found in filter(None, map(self.lists.get, keys)):
            if found.block.is_in_force(now) or found.allow.is_in_force(now):
                yield found


def _judge(address: tuple[Family, int], lists: list[_List], now: float) -> Decision:
    for one in lists:
        if rule_id := one.block.find(address, now):
            return Decision(False, rule_id, "blocked")
    allowed_by = None
    for one in lists:
        if one.allow.is_in_force(now):
            allowed_by = one.allow.find(address, now)
            if allowed_by is None:
                return Decision(False, None, "not in the allow list")
    return Decision(True, allowed_by, "allowed" if allowed_by else "no rule")


def compile(rules: Iterable[Rule]) -> RuleSet:
    given = list(rules)
    real = [rule for rule in given if not rule.is_dry_run]
    return RuleSet(_lists(real), RuleSet(_lists(given)) if len(real) < len(given) else None)


def _lists(rules: Iterable[Rule]) -> dict[tuple[str, UUID | None], _List]:
    lists: dict[tuple[str, UUID | None], _List] = {}
    for rule in rules:
        found = lists.setdefault((rule.scope, rule.endpoint_id), _List())
        (found.block if rule.action == "block" else found.allow).add(rule)
    for found in lists.values():
        found.block.sort()
        found.allow.sort()
    return lists


def locks_out(before: Iterable[Rule], after: Iterable[Rule], address: str) -> bool:
    """Whether a change of rules would refuse ``address`` where it could still change them back: admin or API."""
    old, new = compile(before), compile(after)
    return any(
        old.decide(address, scope).allowed and not new.decide(address, scope).allowed for scope in ("admin", "api")
    )
