"""What every test shares: an append-only audit log that survives the flush, and servers that may be absent."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Iterator

import pytest
from django.db import connection

from tests.monitoring.flush import allow_flush

os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="session", autouse=True)
def tracebacks_need_no_parser() -> None:
    """Python 3.11 parses lines for the carets of a traceback, and its parser is not safe in several threads: one that
    logs a traceback would fail a test that parses just then ("AST constructor recursion depth mismatch").
    """
    if hasattr(traceback, "_extract_caret_anchors_from_line_segment"):
        traceback._extract_caret_anchors_from_line_segment = lambda segment: None


@pytest.fixture(scope="session", autouse=True)
def idle_threads_stay() -> None:
    """Threads of the product that have nothing to do would close their connections in the middle of some other test."""
    from bots import delivery, leases

    leases.IDLE_S = 3600.0
    delivery._flushers._idle_s = 3600.0


@pytest.fixture(autouse=True)
def leases_of_uncommitted_rows_last(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher of leases looks by a connection of its own. On PostgreSQL it does not see what a test has not
    committed, takes such a lease for lost, and now and then a turn would end without an answer.
    """
    from bots import leases

    marker = request.node.get_closest_marker("django_db")
    if marker and not marker.kwargs.get("transaction") and "transactional_db" not in request.fixturenames:
        monkeypatch.setattr(leases, "RENEW_S", math.inf)


@pytest.fixture(scope="session", autouse=True)
def audit_survives_flush() -> Iterator[None]:
    """Every transactional test ends in a flush, which the audit log's triggers would refuse."""
    with pytest.MonkeyPatch.context() as patch:
        allow_flush(patch)
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file: threads that share SQLite's in-memory database do not wait for each other, they fail."""
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


def server_url(name: str, what: str) -> str:
    """The address of a private server that scripts/servers.py started. In CI a missing one is a failure."""
    url = os.environ.get(name, "")
    if not url and os.environ.get("CI"):
        pytest.fail(f"{what} is missing in CI: run the tests by `make test`.")
    if not url:
        pytest.skip(f"{what} is not running: run the tests by `make test`.")
    return url


@pytest.fixture(scope="session")
def postgres_url() -> str:
    return server_url("TEST_POSTGRES_URL", "PostgreSQL")


@pytest.fixture(scope="session")
def redis_url() -> str:
    return server_url("TEST_REDIS_URL", "Redis")
