"""Rules L6 and E13: what the guarded client does not follow, use or trust; certificates are always checked."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest

from clawdbot_site.security.outbound import OutboundRefused, guarded_client

from .serving import certificate, serving

PUBLIC = "93.184.215.14"

# -- the client --


@pytest.fixture
def local_client(settings, client):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    return client


@pytest.mark.rule("L6")
def test_redirect_is_never_followed(local_client, server):
    for follow in (False, True):
        response = local_client.get(f"http://127.0.0.1:{server.server_port}/away", follow_redirects=follow)
        assert response.status_code == 302
    assert [path for path, _ in server.seen] == ["/away", "/away"]


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher", "unix"])
@pytest.mark.rule("L6")
def test_other_schemes_are_refused(client, scheme):
    with pytest.raises(httpx.UnsupportedProtocol):
        client.get(f"{scheme}://example.com/etc/passwd")


@pytest.mark.parametrize("option", ["verify", "trust_env", "follow_redirects", "transport", "mounts", "proxy", "cert"])
def test_option_that_would_open_the_guard_is_refused(option):
    with pytest.raises(TypeError, match=option):
        guarded_client(**{option: False})


def test_proxy_of_the_environment_is_not_used(local_client, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    with guarded_client() as client:
        assert client.get(f"http://127.0.0.1:{server.server_port}/").text == "ok"


def test_connections_are_pooled_and_the_stream_is_reachable(local_client, server):
    url = f"http://127.0.0.1:{server.server_port}/"
    with local_client.stream("GET", url) as response:
        peer = response.extensions["network_stream"].get_extra_info("server_addr")
        body = b"".join(response.iter_bytes())

    assert (peer, body) == (("127.0.0.1", server.server_port), b"ok")


def test_errors_of_the_connection_are_httpx_errors(local_client):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(httpx.ReadTimeout):
            local_client.get(f"http://127.0.0.1:{port}/", timeout=0.1)
    with pytest.raises(httpx.ConnectError):
        local_client.get(f"http://127.0.0.1:{port}/")


def test_proxy_of_the_settings_carries_public_calls_only(db, settings, dns, server):
    settings.OUTBOUND_PROXY = f"http://127.0.0.1:{server.server_port}"
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    dns[0].update({"public.example": [[PUBLIC]], "inner.example": [["127.0.0.1"]], "secret.example": [["10.0.0.1"]]})
    with serving() as inner, guarded_client() as client:
        client.get("http://public.example/x")
        client.get(f"http://inner.example:{inner.server_port}/y")
        with pytest.raises(OutboundRefused):
            client.get("http://secret.example/z")

    assert server.seen == [("http://public.example/x", "public.example")]
    assert [path for path, _ in inner.seen] == ["/y"]


# -- TLS (E13) --


@pytest.mark.rule("E13")
def test_certificate_is_checked_against_the_name_of_a_pinned_connection(settings, dns, tmp_path, monkeypatch):
    context, trusted = certificate(tmp_path, "models.example")
    asked_for: list[str] = []
    context.sni_callback = lambda sock, name, ctx: asked_for.append(name)
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    dns[0].update({"models.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    with serving(tls=context) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        with guarded_client() as client:
            assert client.get(f"https://models.example:{server.server_port}/").text == "ok"
            with pytest.raises(httpx.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED.*Hostname mismatch"):
                client.get(f"https://other.example:{server.server_port}/")
        monkeypatch.delenv("SSL_CERT_FILE")
        with guarded_client() as client, pytest.raises(httpx.ConnectError, match="self-signed certificate"):
            client.get(f"https://models.example:{server.server_port}/")

    assert asked_for == ["models.example", "other.example", "models.example"]
    assert server.seen == [("/", f"models.example:{server.server_port}")]


@pytest.mark.rule("E13")
def test_old_tls_is_refused(settings, tmp_path, monkeypatch):
    """By our own limit: the library below is told to take everything."""
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    usual = httpx.create_ssl_context

    def lax(**options):
        lax_context = usual(**options)
        lax_context.set_ciphers("ALL:@SECLEVEL=0")
        lax_context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        return lax_context

    monkeypatch.setattr(httpx, "create_ssl_context", lax)
    context, _ = certificate(tmp_path, "models.example")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    refused = pytest.raises(httpx.ConnectError, match=r"(?i)version|protocol|alert")
    with serving(tls=context) as server, guarded_client() as client, refused:
        client.get(f"https://127.0.0.1:{server.server_port}/")
