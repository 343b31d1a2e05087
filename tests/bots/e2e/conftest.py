"""Both shapes of the same code, as real processes: embedded, and PostgreSQL, Redis, workers, scheduler and Daphne."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import servers
from tests.conftest import server_url
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService
from tests.servers.site import Site, new_database


@pytest.fixture(scope="module")
def service() -> Iterator[ModelService]:
    with ModelService() as running:
        yield running


@pytest.fixture
def feishu() -> Iterator[FakeFeishu]:
    with FakeFeishu() as running:
        yield running


@pytest.fixture(scope="module", params=["embedded", "production"])
def site(
    request: pytest.FixtureRequest, service: ModelService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    shape: str = request.param
    env = {} if shape == "embedded" else production_env(request.getfixturevalue("own_redis"))
    made = Site(folder / "data", MODEL_ENDPOINT=service.base_url, MODEL_API_KEY=service.api_key, MODEL_NAME="m", **env)
    made.data_dir.mkdir()
    try:
        yield made.start() if shape == "embedded" else made.start_production()
    finally:
        made.close()


@pytest.fixture(scope="module")
def own_redis() -> Iterator[str]:
    """A Redis for one site: two sites on one would take each other's doorbells."""
    server_url("TEST_REDIS_URL", "Redis")
    with servers.redis() as url:
        assert url
        yield url


def production_env(redis_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": new_database(server_url("TEST_POSTGRES_URL", "PostgreSQL"), "e2e"),
        "REDIS_URL": redis_url,
        "SECRET_KEY": secrets.token_urlsafe(64),
        "FIELD_ENCRYPTION_KEYS": secrets.token_urlsafe(32) + "=",
    }


def read_log(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""
