"""The programs that the files of deploy/ are written for. Where one is missing, the tests that need it say so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


def program(name: str) -> str:
    """Also off the PATH of ordinary users (Debian keeps nginx and logrotate in /usr/sbin). Skips; in CI fails."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is missing in CI: run the tests by `make test`.")
    if found is None:
        pytest.skip(f"{name} is not installed: run the tests by `make test`.")
    return found
