"""What is measured, as running processes: the product in both shapes, and its baselines on the same servers."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.measured import Door
from bench.processes import Processes, free_port
from bench.stores import Postgres

SITE = "clawdbot_site.asgi:application"
UNSERVED = "bench-unserved"  # a queue without workers: the door alone
HELLO_DOOR = Door(0, "/webhooks/dingtalk/as-long-as-the-key-of-an-endpoint-is/", "bench", "a-secret-to-sign-with")


@dataclass(slots=True)
class World:
    """What all sites of a run share: servers, the platform that they reply to, keys, and a folder for their logs."""

    folder: Path
    postgres: Postgres
    redis_url: str
    platform_port: int
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(64), repr=False)
    encryption_key: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode(), repr=False)
    servers: list[Server] = field(default_factory=list)

    def close(self) -> None:
        """Stop whatever still runs: a site that could not start leaves its neighbours running."""
        for server in self.servers:
            server.stop()

    def env(self, name: str) -> dict[str, str]:
        """Of an embedded site: all by itself in a folder of its own."""
        data_dir = self.folder / name
        (data_dir / "static").mkdir(parents=True, exist_ok=True)
        platform = f"http://127.0.0.1:{self.platform_port}"
        return {
            "DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.base",
            "CLAWDBOT_DATA_DIR": str(data_dir),
            "CLAWDBOT_ADMIN_PASSWORD": secrets.token_urlsafe(24),
            "SECRET_KEY": self.secret_key,
            "FIELD_ENCRYPTION_KEYS": self.encryption_key,
            "DINGTALK_OAPI_URL": platform,
            "DINGTALK_API_URL": platform,
            "MODEL_ENDPOINT": f"{platform}/v1",  # seeded instead of the demo model, whose loading would disturb
            "NO_PROXY": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
        }

    def production_env(self, name: str, redis_database: int) -> dict[str, str]:
        """``name`` is also the database's."""
        redis_url = f"{self.redis_url.rpartition('/')[0]}/{redis_database}"
        return {**self.env(name), "DATABASE_URL": self.postgres.of(name), "REDIS_URL": redis_url}


class Server(Processes):
    """One site: processes that belong together, and the port where it listens."""

    def __init__(self, world: World, name: str, env: dict[str, str]) -> None:
        self.name, self.port = name, free_port()
        super().__init__({**env, "CLAWDBOT_PORT": str(self.port)}, world.folder / f"{name}.log")
        world.servers.append(self)

    def daphne(self, application: str) -> Self:
        self.start("-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(self.port), application)
        return self

    def up(self) -> Self:
        """As `make run` and the service unit start it: the whole embedded mode, or the site alone."""
        self.start("manage.py", "up")
        return self

    def uvicorn(self, application: str) -> Self:
        quiet = ("--log-level", "warning", "--no-access-log")
        self.start("-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(self.port), *quiet)
        return self

    def worker(self, queues: str, *extra: str, app: str = "clawdbot_site") -> Self:
        shape = ("-P", "threads", "-c", "8", "-Q", queues, "-n", f"{self.name}-{queues}@%h", "-l", "WARNING")
        self.start("-m", "celery", "-A", app, "worker", *shape, *extra)
        return self

    def beat(self) -> Self:
        self.start("-m", "celery", "-A", "clawdbot_site", "beat", "-l", "WARNING")
        return self

    def join(self, queue: str) -> Door:
        """A bot and its address, made inside the site."""
        return Door(**json.loads(self.call("-m", "bench.prepare", queue).splitlines()[-1])).at(self.port)


@contextmanager
def stopped_at_the_end(*servers: Server) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.stop()


def make_template(world: World) -> None:
    """Migrate once; each site of the production shape then has a copy."""
    world.postgres.create("template_site")
    Server(world, "template_site", world.production_env("template_site", 15)).call("manage.py", "migrate", "-v", "0")


def hello(world: World, *, by_uvicorn: bool = False) -> Server:
    server = Server(world, "hello", world.env("hello"))
    application = "bench.baselines.hello:application"
    return server.uvicorn(application) if by_uvicorn else server.daphne(application)


def plain(world: World, database: int) -> Server:
    env = world.production_env("plain", database) | {"DJANGO_SETTINGS_MODULE": "bench.baselines.plain_settings"}
    world.postgres.create("plain", "template_site")
    return Server(world, "plain", env).daphne("bench.baselines.plain:application")


def web(world: World, name: str, database: int, *, by_uvicorn: bool = False) -> Server:
    """The product's site process alone: the door."""
    world.postgres.create(name, "template_site")
    server = Server(world, name, world.production_env(name, database))
    return server.uvicorn(SITE) if by_uvicorn else server.up()


def production(world: World, name: str, database: int) -> Server:
    """The product whole: site, a worker for each kind of work, scheduler."""
    return web(world, name, database).worker("inference").worker("delivery,default").beat()


def bare_worker(world: World, name: str, database: int, *, keeps_connections: bool) -> Server:
    """Celery as it comes, or as the site sets it up."""
    world.postgres.create(name, "template_site")
    server = Server(world, name, world.production_env(name, database))
    if keeps_connections:
        return server.worker("bare", "-I", "bench.baselines.chain")
    return server.worker("bare", app="bench.baselines.chain")


def embedded(world: World, name: str) -> Server:
    """``name`` is also its folder's: what one experiment leaves unanswered must not be another's work."""
    return Server(world, name, world.env(name)).up()
