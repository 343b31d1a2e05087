"""nginx with our file, before a site that tells what reaches it."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.programs import DEPLOY, program
from tests.servers.site import free_port, until
from tests.servers.tls import certificate, shakes_hands

SECRET = "the-key-of-an-endpoint"
MODULES = "/usr/share/nginx/modules-available"


class Telling(BaseHTTPRequestHandler):
    """Answers with the headers it got; under /v1/ in two pieces, the second when it is told to go on."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + (5 if self.path.startswith("/v1/") else 0)))
        self.end_headers()
        self.wfile.write(body)
        if self.path.startswith("/v1/"):
            self.go_on.wait(10)
            self.wfile.write(b" done")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def behind() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Telling) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


class Nginx:
    def __init__(self, folder: Path, behind: int) -> None:
        self.folder, self.port, self.plain_port = folder, free_port(), free_port()
        self.ca, key = certificate(folder)
        site = (DEPLOY / "nginx/clawdbot.conf").read_text()
        for ours, here in {
            "bots.example.com": "localhost",
            "/etc/clawdbot/tls/fullchain.pem": str(self.ca),
            "/etc/clawdbot/tls/privkey.pem": str(key),
            "/var/log/nginx": str(folder),
            "server 127.0.0.1:18789": f"server 127.0.0.1:{behind}",
            "listen 443": f"listen {self.port}",
            "listen 80;": f"listen {self.plain_port};",
        }.items():
            assert ours in site
            site = site.replace(ours, here)
        site = re.sub(r"\n\s*listen \[::\].*", "", site)
        (folder / "clawdbot.conf").write_text(site)
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
            f" http {{ {temporary} include {folder}/clawdbot.conf; }}"
        )
        self.command = [program("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        verify = ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(base_url=self.url, verify=verify, trust_env=False, **options)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="module")
def nginx(behind: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"), behind)
    process = subprocess.Popen(made.command, stderr=subprocess.DEVNULL)
    until(made.answers, "nginx does not answer")
    yield made
    process.terminate()
    process.wait(10)


def test_nginx_takes_the_file(nginx: Nginx) -> None:
    done = subprocess.run([*nginx.command, "-t"], capture_output=True, text=True, check=False)

    assert (done.returncode, [line for line in done.stderr.splitlines() if "[warn]" in line]) == (0, [])


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)],
)
def test_old_tls_is_refused(nginx: Nginx, version: str, is_taken: bool) -> None:
    assert shakes_hands(nginx.port, ssl.TLSVersion[version], nginx.ca) == is_taken


def test_http2_is_offered(nginx: Nginx) -> None:
    context = ssl.create_default_context(cafile=str(nginx.ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", nginx.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.selected_alpn_protocol() == "h2"


def test_plain_http_leads_to_https(nginx: Nginx) -> None:
    answer = httpx.get(f"http://127.0.0.1:{nginx.plain_port}/admin/", headers={"Host": "localhost"}, trust_env=False)

    assert (answer.status_code, answer.headers["Location"]) == (301, "https://localhost/admin/")


def test_the_site_learns_the_real_address_and_no_invented_one(nginx: Nginx) -> None:
    with nginx.client() as client:
        seen = client.get("/admin/", headers={"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8"}).json()

    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"], "forwarded" in seen) == ("127.0.0.1", "https", False)


def test_request_ids_are_passed_on_or_made(nginx: Nginx) -> None:
    with nginx.client() as client:
        given = client.get("/admin/", headers={"X-Request-ID": "from-the-client"}).json()["x-request-id"]
        made = client.get("/admin/").json()["x-request-id"]

    assert (given, len(made)) == ("from-the-client", 32)


def test_websockets_are_upgraded_and_other_requests_are_not(nginx: Nginx) -> None:
    with nginx.client() as client:
        upgrade = client.get("/ws/chat/demo/", headers={"Upgrade": "websocket", "Connection": "Upgrade"}).json()
        plain = client.get("/admin/").json()

    assert (upgrade["upgrade"], upgrade["connection"]) == ("websocket", "upgrade")
    assert "upgrade" not in plain


def test_pieces_of_an_answer_arrive_as_they_are_written(nginx: Nginx) -> None:
    Telling.go_on.clear()
    with nginx.client() as client, client.stream("GET", "/v1/models") as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        Telling.go_on.set()
        assert (first[:1], b"".join(pieces)) == (b"{", b" done")


@pytest.mark.parametrize(("path", "size_bytes", "status"), [
    ("/webhooks/feishu/k/", 1024 * 1024 + 1, 413),
    ("/webhooks/feishu/k/", 1024 * 1024, 200),
    ("/api/v1/bots/", 10 * 1024 * 1024 + 1, 413),
])  # fmt: skip
def test_bodies_that_are_too_large_end_at_the_door(nginx: Nginx, path: str, size_bytes: int, status: int) -> None:
    with nginx.client() as client:
        assert client.post(path, content=b"x" * size_bytes).status_code == status


def test_metrics_are_not_for_the_world(nginx: Nginx) -> None:
    with nginx.client() as client:
        assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize(
    "path", [f"/webhooks/feishu/{SECRET}", f"/webhooks/dingtalk/{SECRET}/", f"/api/v1/hooks/{SECRET}/?key={SECRET}"]
)
def test_no_log_holds_the_secret_of_an_address(nginx: Nginx, path: str) -> None:
    with nginx.client() as client:
        assert client.get(path).status_code == 200
        assert client.post(path, content=b"x" * (11 * 1024 * 1024)).status_code == 413
    door = path.partition(SECRET)[0]
    log = until(lambda: _lines(nginx, door), "nothing is logged")

    assert f'"GET {door}*** ' not in log[-1]
    assert f"{door}***" in log[-1]
    assert SECRET not in "".join(one.read_text() for one in nginx.folder.glob("*.log"))


def _lines(nginx: Nginx, door: str) -> list[str]:
    lines = (nginx.folder / "clawdbot.log").read_text().splitlines()
    return [line for line in lines if f"{door}***" in line]
