"""Rules L6 and E13: which addresses may be called, pinned to what was judged; certificates are always checked."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core.exceptions import ValidationError
from django.utils import timezone

from clawdbot_site.security.models import OutboundExemption
from clawdbot_site.security.outbound import OutboundRefused, check_url, guarded_client, is_public, resolve

PUBLIC = "93.184.215.14"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers["Host"]))
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_CONNECT = do_GET

    def log_message(self, *args):
        pass


@contextmanager
def serving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer((host, 0), Handler)
    server.seen = []
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def client():
    with guarded_client(timeout=5) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_allowed(settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = []
    settings.OUTBOUND_TRUSTED_ORIGINS = []
    settings.OUTBOUND_PROXY = ""


@pytest.fixture
def dns(monkeypatch):
    """Names as the test wants them: each look-up takes the next answer, the last one stays."""
    answers: dict[str, list[list[str]]] = {}
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host not in answers:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [entry for address in found for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers, asked


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


def certificate(folder, name: str):
    """A self-signed certificate for ``name``; return a server's context and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, key_file = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file.write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_file)
    return context, pem


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
