"""The decision about addresses, against a naive scan with ``ipaddress`` and as a truth table."""

from __future__ import annotations

import ipaddress
import time
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clawdbot_site.security.ip_rules import Decision, Rule, compile, locks_out, normalise, parse_address

NOW = 1_700_000_000.0
PAST, FUTURE = datetime.fromtimestamp(NOW - 1, UTC), datetime.fromtimestamp(NOW + 1, UTC)
SCOPES = ("site", "admin", "api", "webhooks")
ENDPOINTS = (None, uuid.UUID(int=1), uuid.UUID(int=2))


def rule(action: str, network: str, scope: str = "site", endpoint=None, expires_at=None, id: str = "") -> Rule:
    return Rule(id or f"{action} {network} {scope}", action, normalise(network), scope, endpoint, expires_at)


def decide(rules: list[Rule], address: str, scope: str = "site", endpoint=None) -> Decision:
    return compile(rules).decide(address, scope, endpoint, now=NOW)


# -- oracle --


def folded(address):
    return getattr(address, "ipv4_mapped", None) or address


def naive(rules: list[Rule], text: str, scope: str, endpoint) -> bool:
    """The rules of the module's docstring, written as slowly and plainly as possible."""
    live = [r for r in rules if r.expires_at is None or r.expires_at.timestamp() > NOW]
    lists = [("site", None), (scope, None), (scope, endpoint)]
    applying = [r for r in live if (r.scope, r.endpoint_id) in lists]
    if not applying:
        return True
    try:
        address = folded(ipaddress.ip_address(text))
    except ValueError:
        return False
    holding = [r for r in applying if address in ipaddress.ip_network(r.network)]
    if any(r.action == "block" for r in holding):
        return False
    for key in lists:
        allows = [r for r in applying if r.action == "allow" and (r.scope, r.endpoint_id) == key]
        if allows and not any(r in holding for r in allows):
            return False
    return True


# Few values, so that rules and addresses meet.
V4_NUMBERS = st.sampled_from([0, 1, 0x7F000001, 0x0A000000, 0x0A000001, 0x0A0000FF, 0x0AFFFFFF, 0xFFFFFFFF])
V6_NUMBERS = st.sampled_from([0, 1, 0x7F000001, 1 << 127, (1 << 128) - 1, 0xFFFF << 32, 0x20010DB8 << 96])
V4 = st.builds(lambda n: str(ipaddress.IPv4Address(n)), V4_NUMBERS | st.integers(0, 2**32 - 1))
MAPPED = V4.map(lambda text: f"::ffff:{text}")
V6 = st.builds(lambda n: str(ipaddress.IPv6Address(n)), V6_NUMBERS | st.integers(0, 2**128 - 1))
ADDRESSES = (
    V4 | MAPPED | V6 | st.sampled_from(["", "unknown", "10.0.0", "010.0.0.1", "1.2.3.4\0", "::g", "10.0.0.1:80"])
)
NETWORKS = (
    st.tuples(V4, st.integers(0, 32) | st.sampled_from([8, 24, 31, 32]))
    | st.tuples(MAPPED, st.integers(96, 128))
    | st.tuples(V6, st.integers(0, 128))
).map(lambda pair: f"{pair[0]}/{pair[1]}")
RULES = st.builds(
    lambda action, network, place, expires_at: rule(action, network, place[0], place[1], expires_at),
    st.sampled_from(["allow", "block"]),
    NETWORKS,
    st.sampled_from([(s, None) for s in SCOPES] + [("webhooks", e) for e in ENDPOINTS[1:]]),
    st.sampled_from([None, None, PAST, FUTURE]),
)


@pytest.mark.rule("N4")
@given(st.lists(RULES, max_size=12), ADDRESSES, st.sampled_from(SCOPES), st.sampled_from(ENDPOINTS))
@settings(max_examples=600, deadline=None)
@example([rule("allow", "::/0")], "10.0.0.1", "site", None)
@example([rule("block", "::ffff:0:0/96")], "10.0.0.1", "site", None)
def test_decision_equals_naive_scan_when_rules_and_addresses_are_random(rules, address, scope, endpoint):
    assert decide(rules, address, scope, endpoint).allowed == naive(rules, address, scope, endpoint)


@pytest.mark.rule("N2")
@given(st.text())
def test_any_text_is_decided_when_it_is_no_address(text):
    assert decide([rule("block", "203.0.113.0/24")], text).allowed == (parse_address(text) is not None)


# -- truth table --


@pytest.mark.rule("N3")
@pytest.mark.parametrize(
    ("rules", "address", "scope", "expected"),
    [
        ([], "198.51.100.1", "api", Decision(True)),
        ([], "nonsense", "api", Decision(True)),
        ([rule("block", "10.0.0.0/8")], "10.1.2.3", "api", Decision(False, "block 10.0.0.0/8 site", "blocked")),
        ([rule("block", "10.0.0.0/8")], "11.1.2.3", "api", Decision(True)),
        ([rule("block", "10.0.0.0/8")], "nonsense", "api", Decision(False, None, "unreadable address")),
        ([rule("block", "10.0.0.0/8", "admin")], "10.1.2.3", "api", Decision(True)),
        ([rule("block", "10.0.0.0/8", "admin")], "nonsense", "api", Decision(True)),
        ([rule("allow", "10.0.0.0/8")], "10.1.2.3", "api", Decision(True, "allow 10.0.0.0/8 site", "allowed")),
        ([rule("allow", "10.0.0.0/8")], "11.1.2.3", "api", Decision(False, None, "not in the allow list")),
        (
            [rule("allow", "10.0.0.0/8"), rule("block", "10.1.0.0/16")],
            "10.1.2.3",
            "api",
            Decision(False, "block 10.1.0.0/16 site", "blocked"),
        ),
        (
            [rule("block", "10.0.0.0/8"), rule("allow", "10.1.2.3/32")],
            "10.1.2.3",
            "api",
            Decision(False, "block 10.0.0.0/8 site", "blocked"),
        ),
        (
            [rule("allow", "10.0.0.0/8"), rule("allow", "11.0.0.0/8", "api")],
            "11.1.2.3",
            "api",
            Decision(False, None, "not in the allow list"),
        ),
        ([rule("block", "10.0.0.0/8", expires_at=PAST)], "10.1.2.3", "api", Decision(True)),
        ([rule("allow", "10.0.0.0/8", expires_at=PAST)], "11.1.2.3", "api", Decision(True)),
        ([rule("block", "10.0.0.0/8")], "::ffff:10.1.2.3", "api", Decision(False, "block 10.0.0.0/8 site", "blocked")),
        ([rule("allow", "::/0")], "10.1.2.3", "api", Decision(False, None, "not in the allow list")),
        ([rule("block", "fe80::/10", id="x")], "fe80::1%eth0", "api", Decision(False, "x", "blocked")),
    ],
)
def test_verdict_when_rules_meet(rules, address, scope, expected):
    assert decide(rules, address, scope) == expected


def test_endpoint_rule_counts_only_when_its_endpoint_is_called():
    rules = [rule("allow", "10.0.0.0/8", "webhooks", ENDPOINTS[1])]
    verdicts = [decide(rules, "11.0.0.1", "webhooks", endpoint).allowed for endpoint in ENDPOINTS]
    assert verdicts == [True, False, True]


def test_longer_lasting_rule_counts_when_two_are_equal():
    rules = [
        rule("block", "10.0.0.0/8", expires_at=PAST),
        rule("block", "10.0.0.0/8"),
        rule("block", "10.0.0.0/8", expires_at=PAST),
    ]
    assert not decide(rules, "10.0.0.1").allowed


def test_rule_ends_when_its_time_comes_without_compiling_again():
    compiled = compile([rule("block", "10.0.0.0/8", expires_at=FUTURE)])
    assert [compiled.decide("10.0.0.1", "site", now=NOW + s).allowed for s in (0, 2)] == [False, True]


@pytest.mark.parametrize(
    ("given_text", "stored"),
    [
        ("10.0.0.1", "10.0.0.1/32"),
        (" 10.1.2.3/8 ", "10.0.0.0/8"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ("::FFFF:10.0.0.1", "10.0.0.1/32"),
        ("2001:DB8::1/32", "2001:db8::/32"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_network_has_one_form_when_stored(given_text, stored):
    assert normalise(given_text) == stored


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0/33", "10.0.0", "x", "010.0.0.1", "fe80::1%eth0/64", "10.0.0.0/-1", "10.0.0.1/8/8"]
)
def test_network_is_refused_when_it_is_none(text):
    with pytest.raises(ValueError):
        normalise(text)


def test_lock_out_is_noticed_when_admin_or_api_closes_for_the_address():
    own = "10.0.0.1"
    cases = {
        "block": locks_out([], [rule("block", "10.0.0.0/8", "admin")], own),
        "allow others": locks_out([], [rule("allow", "11.0.0.0/8", "api")], own),
        "webhooks only": locks_out([], [rule("block", "10.0.0.0/8", "webhooks")], own),
        "somebody else": locks_out([], [rule("block", "11.0.0.0/8")], own),
        "already out": locks_out([rule("block", "10.0.0.0/8")], [rule("block", "10.0.0.0/9")], own),
    }
    assert cases == {
        "block": True,
        "allow others": True,
        "webhooks only": False,
        "somebody else": False,
        "already out": False,
    }


def test_decision_is_fast_when_there_are_a_hundred_thousand_rules():
    numbers = [(i * 2654435761) % 2**32 for i in range(100_000)]
    rules = [
        Rule(str(i), "block", f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.0/24", "site") for i, n in enumerate(numbers)
    ]
    started = time.perf_counter()
    compiled = compile(rules)
    compiled_s = time.perf_counter() - started
    started = time.perf_counter()
    for number in range(10_000):
        compiled.decide(f"10.{number >> 8}.{number & 255}.1", "api")
    each_us = (time.perf_counter() - started) * 100
    assert compiled_s < 3, f"compiling took {compiled_s:.2f} s"
    assert each_us < 100, f"one decision took {each_us:.0f} us"
