"""Where figures come from: machine, versions, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import ROOT

if TYPE_CHECKING:  # the engine is measured on machines that have no driver of PostgreSQL
    from bench.stores import Postgres

PACKAGES = ("django", "channels", "daphne", "uvicorn", "celery", "redis", "psycopg", "psycopg-binary")


def facts(postgres: Postgres) -> dict[str, str]:
    shown = {f"PostgreSQL {name}": value for name, value in postgres.settings().items()}
    return {
        **_machine("cores, shared with the load generator"),
        **{name: _version(name) for name in PACKAGES},
        **shown,
        "Redis": _said("redis-server", "--version"),
        "commit": _commit(),
    }


def bare_facts(*packages: str) -> dict[str, str]:
    """Without any server."""
    return {**_machine("cores"), **{name: _version(name) for name in packages}, "commit": _commit()}


def _machine(cores: str) -> dict[str, str]:
    return {
        "CPU": _cpu_model(),
        cores: str(os.cpu_count()),
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "system": platform.platform(),
        "Python": platform.python_version(),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    is_changed = bool(_said("git", "status", "--porcelain", "--untracked-files=no"))
    return (_said("git", "rev-parse", "HEAD") or "unknown") + (" with changes" if is_changed else "")


def _said(*command: str) -> str:
    """What a program says; nothing where it is missing or fails (a copy without .git)."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
