from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import example, given
from hypothesis import strategies as st

from monitoring import client_ip as ips

TRUSTED = ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")


def scope(peer: Any, *forwarded: str | bytes, header: bytes = b"x-forwarded-for") -> dict[str, Any]:
    values = [value.encode() if isinstance(value, str) else value for value in forwarded]
    return {"client": (peer, 1234) if isinstance(peer, str) else peer, "headers": [(header, v) for v in values]}


@pytest.mark.rule("N1")
@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),  # nobody asked this peer
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),  # the left one is what the client wrote
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1"),  # several headers are one list
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        ("fd00::1%eth0", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["1.1.1.1:5000"], "1.1.1.1"),
        ("10.0.0.1", ["2001:DB8:0:0::1"], "2001:db8::1"),
        ("10.0.0.1", ["unknown"], ""),
        ("10.0.0.1", ["1.1.1.1, "], ""),
        ("10.0.0.1", ["1.1.1.1:x"], ""),
        ("10.0.0.1", ["[1.1.1.1"], ""),
        ("10.0.0.1", ["١.1.1.1"], ""),
        ("10.0.0.1", [b"\xff\x00"], ""),
        ("10.0.0.1", ["  "], "10.0.0.1"),
        ("", ["1.1.1.1"], ""),
        (None, ["1.1.1.1"], ""),
        (["/run/clawdbot.sock", 0], ["1.1.1.1"], ""),
    ],
)
def test_client_ip_is_resolved_when_the_chain_is(peer, forwarded, expected, settings):
    settings.TRUSTED_PROXIES = list(TRUSTED)

    assert ips.client_ip(scope(peer, *forwarded)) == expected


@pytest.mark.rule("N1")
@given(st.ip_addresses(), st.lists(st.text() | st.ip_addresses().map(str)))
@example(ipaddress.ip_address("203.0.113.9"), ["10.0.0.1", "127.0.0.1"])
def test_headers_change_nothing_when_the_peer_is_untrusted(peer, forwarded):
    networks = ips.parse_networks(TRUSTED)
    if any(ips.fold(peer) in network for network in networks):
        return

    assert ips.resolve(str(peer), forwarded, networks) == str(ips.fold(peer))


@pytest.mark.rule("N1")
@given(st.ip_addresses(v=4), st.lists(st.text()))
def test_what_stands_left_of_the_proxys_entry_changes_nothing_when_a_proxy_appended(client, forged):
    networks = ips.parse_networks(("127.0.0.1/32",))
    if client == ipaddress.ip_address("127.0.0.1"):
        return

    assert ips.resolve("127.0.0.1", [*forged, str(client)], networks) == str(client)


@pytest.mark.rule("N2")
@given(st.binary(), st.text())
def test_garbage_never_raises_when_it_is_a_header_or_an_address(header, text):
    assert isinstance(ips.resolve("127.0.0.1", [header.decode("latin-1")], ips.parse_networks(("127.0.0.1/32",))), str)
    assert ips.in_networks(text, TRUSTED) in (True, False)


def test_a_wrong_network_trusts_nobody_when_configured():
    assert ips.parse_networks(("", "nonsense", "10.0.0.0/99")) == ()


def test_a_mapped_network_is_ipv4_when_configured():
    assert ips.in_networks("10.1.2.3", ["::ffff:10.0.0.0/104"])


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"Forwarded", b"X-Real-IP", b"via"])
def test_a_request_is_not_direct_when_a_stranger_forwards(name, settings):
    forwarded = scope("127.0.0.1", "1.1.1.1", header=name)

    assert ips.has_forwarding_header(forwarded)
    assert not ips.is_direct(forwarded)
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    assert ips.is_direct(forwarded)


def test_scope_of_reads_meta_when_the_request_came_without_asgi(settings):
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    request = RequestFactory().get("/", headers={"X-Forwarded-For": "1.1.1.1"})

    assert ips.client_ip(ips.scope_of(request)) == "1.1.1.1"
    assert ips.has_forwarding_header(ips.scope_of(request))
