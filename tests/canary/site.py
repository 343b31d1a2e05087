"""A whole site in the production shape whose every setting that may hold a secret holds one, with all its neighbours.

PostgreSQL, Redis, site, two workers and the scheduler are processes; platforms, model service and receivers are fakes
on real sockets. Everything logs as much as it can.
"""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scripts import servers
from tests.canary.search import Canary, Search
from tests.conftest import server_url
from tests.integrations.dingtalk.fake_dingtalk import FakeDingTalk
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService
from tests.servers.site import ROOT, Site, free_port, new_database

WORKERS = {"inference": "inference", "delivery": "delivery,default"}


def token() -> str:
    return secrets.token_urlsafe(24)


def letters(count: int) -> Callable[[], str]:
    """So many letters and digits, and base64 of whole bytes: what DingTalk's console makes."""
    return lambda: next(text for text in iter(lambda: _base64(32)[:count], "") if text.isalnum())


def _base64(size_bytes: int) -> str:
    return base64.b64encode(secrets.token_bytes(size_bytes)).decode().rstrip("=")


def key_encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


class Plants(dict[str, str]):
    """The secrets by what they are: those that we make, and those that the product made and told us once."""

    def new(self, name: str, make: Callable[[], str] = token) -> str:
        return self.seen(name, make())

    def seen(self, name: str, text: str) -> str:
        assert name not in self, f"two secrets are called {name}"
        self[name] = text
        return text

    def search(self) -> Search:
        return Search(Canary(name, text) for name, text in self.items())


@dataclass
class Receiver:
    """Takes what is forwarded; ``says`` is its next answer where it has one."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    says: list[tuple[int, str]] = field(default_factory=list)

    @property
    def heard(self) -> bytes:
        return b"\n".join(self.bodies)


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, text = made.says.pop(0) if made.says else (200, "{}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Neighbours:
    feishu: FakeFeishu
    dingtalk: FakeDingTalk
    model: ModelService
    logs: Receiver
    audit: Receiver
    alerts: Receiver


@contextmanager
def neighbours(plants: Plants) -> Iterator[Neighbours]:
    with (
        FakeFeishu() as feishu,
        FakeDingTalk() as dingtalk,
        ModelService(plants.new("API key of MODEL_API_KEY")) as model,
        receiver() as logs,
        receiver() as audit,
        receiver() as alerts,
    ):
        feishu.app_id, feishu.app_secret = "cli_canary", plants.new("app secret of Feishu")
        feishu.tokens.add("t-" + plants.new("access token from Feishu"))
        dingtalk.app_id, dingtalk.app_secret = "dingcanary", plants.new("app secret of DingTalk")
        dingtalk.token = plants.new("access token from DingTalk")
        dingtalk.sessions = {plants.new("session address of DingTalk")}
        dingtalk.robots = {
            plants.new("address of DingTalk's group robot"): plants.new("secret of DingTalk's group robot")
        }
        yield Neighbours(feishu, dingtalk, model, logs, audit, alerts)


@contextmanager
def redis_with(password: str) -> Iterator[str]:
    server_url("TEST_REDIS_URL", "Redis")
    program, port = servers.program("redis-server"), free_port()
    assert program
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", password]
    with servers.running(words, port):
        yield f"redis://:{password}@127.0.0.1:{port}/0"


def database_with(password: str) -> str:
    """Its server trusts everybody: the password is there to be kept to oneself."""
    address = new_database(server_url("TEST_POSTGRES_URL", "PostgreSQL"), "canary")
    return address.replace("@", f":{password}@")


def environment(plants: Plants, near: Neighbours, redis_url: str, log_dir: Path) -> dict[str, str]:
    sink = f"https://127.0.0.1:9/keep?token={plants.new('token of an audit sink')}"
    return {
        "DATABASE_URL": database_with(plants.new("password of the database")),
        "REDIS_URL": redis_url,
        "SECRET_KEY": plants.new("SECRET_KEY", lambda: secrets.token_urlsafe(48)),
        "FIELD_ENCRYPTION_KEYS": plants.new("key-encryption key", key_encryption_key),
        "CLAWDBOT_ADMIN_PASSWORD": plants.new("password of the admin", lambda: f"{token()}/+&<é"),
        "FEISHU_BASE_URL": near.feishu.url,
        "DINGTALK_API_URL": near.dingtalk.api_url,
        "DINGTALK_OAPI_URL": near.dingtalk.oapi_url,
        "MODEL_ENDPOINT": near.model.base_url,
        "MODEL_API_KEY": near.model.api_key,
        "MODEL_NAME": "m",
        "METRICS_TOKEN": plants.new("METRICS_TOKEN"),
        "METRICS_ALLOWED_NETWORKS": "192.0.2.0/24",
        "EMAIL_URL": f"smtp://alerts:{plants.new('password of the mail server')}@127.0.0.1:9/?from=bots@example.com",
        "AUDIT_SINKS": f"file:{log_dir}/checkpoints,{sink}",
        "AUDIT_FORWARD_TO": f"otlp+{near.audit.url}/v1/logs?key={plants.new('key of the audit receiver')}",
        "LOG_FORWARD_TO": f"otlp+{near.logs.url}/v1/logs?key={plants.new('key of the log receiver')}",
        "LOG_DIR": str(log_dir),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "LANGUAGE_CODE": "en",
    }


class CanarySite(Site):
    """Its workers tell their metrics, each on a port of its own; each process writes an output of its own."""

    def __init__(self, data_dir: Path, **env: str) -> None:
        super().__init__(data_dir, **env)
        self.outputs: dict[str, Path] = {}
        self.metrics_urls = {"site": f"{self.url}/metrics"}

    def start_production(self) -> CanarySite:
        self.manage("migrate")
        self._spawn_as("site", "manage.py", "up")
        for name, queues in WORKERS.items():
            self.env["WORKER_METRICS_PORT"] = str(port := free_port())
            self.metrics_urls[name] = f"http://127.0.0.1:{port}/metrics"
            worker = ("-m", "celery", "-A", "clawdbot_site", "worker", "-P", "threads", "-c", "4", "-l", "DEBUG")
            self._spawn_as(name, *worker, "-Q", queues, "-n", f"{name}@%h")
        del self.env["WORKER_METRICS_PORT"]
        self._spawn_as("scheduler", "-m", "celery", "-A", "clawdbot_site", "beat", "-l", "DEBUG")
        self.wait(180)
        return self

    def _spawn_as(self, name: str, *words: str) -> None:
        self.outputs[name] = self.log_path = self.data_dir.with_name(f"{name}.log")
        self.spawn(*words)

    def told(self, *words: str, **env: str) -> bytes:
        """All that a command prints, however it ends."""
        command, given = [sys.executable, "manage.py", *words], {**self.env, **env}
        done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, timeout=120, check=False)
        return done.stdout + done.stderr
