from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import servers


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: PostgreSQL runs as another user, which may not enter that one."""
    for name in ("postgres", "redis-server"):
        if servers.program(name) is None:
            assert not os.environ.get("CI"), f"{name} is missing in CI: run the tests by `make test`."
            pytest.skip(f"{name} is not installed: run the tests by `make test`.")
    with tempfile.TemporaryDirectory(prefix="clawdbot-chaos-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
