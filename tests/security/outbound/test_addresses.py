"""Rule L6: which addresses may be called, pinned to what was judged, and what the settings open."""

from __future__ import annotations

import ipaddress
import socket
from datetime import timedelta

import httpx
import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from clawdbot_site.security.models import OutboundExemption
from clawdbot_site.security.outbound import OutboundRefused, check_url, is_public, resolve

from .serving import serving

PUBLIC = "93.184.215.14"

# -- which addresses --


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.2", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1",
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe",
        "100.100.100.200", "0.0.0.0", "0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1",
        "::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "fe80::1", "fe80::1%lo", "fc00::1",
        "fd00:ec2::254", "ff02::1", "2001:db8::1",
    ],
)  # fmt: skip
@pytest.mark.rule("L6")
def test_inner_address_is_refused_in_every_form(db, host):
    with pytest.raises(OutboundRefused):
        resolve(host, 80)


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:10.0.0.1]", "0"])
def test_refusal_is_a_connection_error_that_no_retry_helps(db, client, host):
    with pytest.raises(httpx.ConnectError) as caught:
        client.get(f"http://{host}/")

    assert isinstance(caught.value, OutboundRefused)
    assert caught.value.permanent
    assert caught.value.request.url.scheme == "http"


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111"])
def test_public_address_is_public(address):
    assert is_public(ipaddress.ip_address(address))
    assert resolve(address, 443) == [address]


@pytest.mark.rule("L6")
def test_name_is_refused_when_one_of_its_addresses_is_inner(db, client, dns):
    dns[0]["mixed.example"] = [[PUBLIC, "127.0.0.1"]]

    with pytest.raises(OutboundRefused, match=r"mixed\.example stands for 127\.0\.0\.1.*OUTBOUND_ALLOWED_NETWORKS"):
        client.get("http://mixed.example/")


@pytest.mark.rule("L6")
def test_connection_goes_to_the_address_that_was_judged(settings, client, dns, server):
    """Rebinding: the second answer would be another machine."""
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    answers, asked = dns
    answers["rebind.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    with serving("127.0.0.2") as other:
        response = client.get(f"http://rebind.example:{server.server_port}/x")

    assert response.text == "ok"
    assert server.seen == [("/x", f"rebind.example:{server.server_port}")]
    assert other.seen == []
    assert asked == ["rebind.example"]


@pytest.mark.parametrize("addresses", [["127.0.0.9", "127.0.0.1"], ["127.0.0.1", "127.0.0.9"]])
def test_addresses_are_tried_in_turn_until_one_answers(settings, client, dns, server, addresses):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    dns[0]["two.example"] = [addresses]

    assert client.get(f"http://two.example:{server.server_port}/").text == "ok"


def test_unknown_name_is_a_passing_connection_error(client, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(httpx.ConnectError) as caught:
        client.get("http://nowhere.invalid/")
    assert not isinstance(caught.value, OutboundRefused)


# -- what opens it --


def test_allowed_network_is_reached_and_its_neighbour_is_not(db, settings, client, server):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.1/32"]

    assert client.get(f"http://127.0.0.1:{server.server_port}/").text == "ok"
    with pytest.raises(OutboundRefused):
        client.get(f"http://127.0.0.2:{server.server_port}/")


@pytest.mark.rule("L6")
def test_metadata_address_stays_closed_whatever_network_is_allowed(settings, client):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["0.0.0.0/0", "::/0"]

    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "2852039166"):
        with pytest.raises(OutboundRefused, match="metadata"):
            client.get(f"http://{host}/latest/meta-data/")


def test_origin_of_the_settings_is_reached_on_its_own_port_only(db, settings, client, server):
    settings.OUTBOUND_TRUSTED_ORIGINS = [f"LocalHost:{server.server_port}"]

    assert client.get(f"http://localhost:{server.server_port}/").text == "ok"
    with serving() as other, pytest.raises(OutboundRefused):
        client.get(f"http://localhost:{other.server_port}/")


def test_ipv6_origin_of_the_settings_is_trusted(settings):
    settings.OUTBOUND_TRUSTED_ORIGINS = ["::1:8000"]

    assert resolve("::1", 8000) == ["::1"]
    check_url("http://[::1]:8000/v1")


def test_exemption_opens_one_loopback_port_while_it_lives(db, client, server):
    url = f"http://127.0.0.1:{server.server_port}/"
    exemption = OutboundExemption.objects.create(
        host="127.0.0.1", port=server.server_port, expires_at=timezone.now() + timedelta(minutes=1)
    )

    assert client.get(url).text == "ok"
    check_url(url)
    with pytest.raises(OutboundRefused):
        resolve("127.0.0.1", server.server_port + 1)
    OutboundExemption.objects.filter(pk=exemption.pk).update(expires_at=timezone.now())
    with pytest.raises(OutboundRefused):
        resolve("127.0.0.1", server.server_port)


def test_exemption_never_opens_another_machine(db):
    OutboundExemption.objects.create(host="10.0.0.1", port=80, expires_at=timezone.now() + timedelta(minutes=1))

    with pytest.raises(OutboundRefused):
        resolve("10.0.0.1", 80)


def test_public_address_costs_no_query(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        resolve(PUBLIC, 443)


# -- at entry --


@pytest.mark.parametrize(
    "url",
    [
        "", "no address", "example.com/v1", "ftp://example.com/", "file:///etc/passwd", "https://", "https:///v1",
        "https://user:pw@example.com/", "https://token@example.com/", "http://127.0.0.1/", "http://localhost:8000/v1",
        "http://api.localhost/", "http://LOCALHOST./", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/",
        "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://[fe80::1%25lo]/", "http://169.254.169.254/latest/",
        "http://127.0.0.1./", "https://[::1/", "https://exa mple.com/", "https://example.com:99999/", "http://0/",
    ],
)  # fmt: skip
def test_address_is_refused_at_entry(db, url):
    with pytest.raises(ValidationError) as caught:
        check_url(url)

    assert isinstance(caught.value, ValueError)
    assert "pw" not in str(caught.value)
    assert "token@" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://8.8.8.8:8000", "https://[2606:4700::1]/v1"])
def test_public_address_is_taken_at_entry_without_asking_anybody(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    check_url(url)


def test_allowed_inner_address_is_taken_at_entry(settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["10.1.0.0/16"]
    check_url("http://10.1.2.3:8000/v1")
