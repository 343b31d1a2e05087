"""How much memory a small server needs: site, workers, scheduler, long connections, PostgreSQL and Redis together.

    .venv/bin/python scripts/servers.py .venv/bin/python -m bench.memory

A remote model (a fake one, in this process and not counted), questions over REST, then each process's share: its own
pages, and its part of those that it shares (PSS). Fails when a server with 4 GB would not keep 1 GB to spare, or when
a process has loaded torch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from bench.processes import running, tree
from tests.servers.model_service import ModelService
from tests.servers.site import Site

QUESTIONS, AT_ONCE = 300, 16
SERVER_MIB, SYSTEM_MIB, SPARE_MIB = 4096, 300, 1024  # of 4 GB; kernel and services of a bare Debian; to spare
BUDGET_MIB = SERVER_MIB - SYSTEM_MIB - SPARE_MIB


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="clawdbot-memory-") as folder, ModelService() as service:
        site = Site(Path(folder) / "data", **_settings(service))
        site.data_dir.mkdir()
        try:
            site.start_production()
            site.spawn("manage.py", "listen")
            _report("after the start", site)
            _ask(site)
            time.sleep(6)  # workers have told of their models once more
            used_mib = _report(f"after {QUESTIONS} questions, {AT_ONCE} at once", site)
        finally:
            site.stop()
            site.close()
    print(f"\n{used_mib:.0f} MiB of {BUDGET_MIB} (4 GB less {SPARE_MIB} to spare and {SYSTEM_MIB} for the system)")
    return 0 if used_mib <= BUDGET_MIB else 1


def _settings(service: ModelService) -> dict[str, str]:
    return {
        "DATABASE_URL": os.environ["TEST_POSTGRES_URL"],
        "REDIS_URL": os.environ["TEST_REDIS_URL"],
        "SECRET_KEY": os.urandom(32).hex(),
        "FIELD_ENCRYPTION_KEYS": "QmFzZTY0IG9mIDMyIGJ5dGVzLCBmb3IgdGVzdHMhISE=",
        "MODEL_ENDPOINT": service.base_url,
        "MODEL_API_KEY": service.api_key,
        "MODEL_NAME": "m",
        "LOG_LEVEL": "WARNING",
    }


def _ask(site: Site) -> None:
    with site.rest() as rest, ThreadPoolExecutor(AT_ONCE) as pool:
        rest.patch("bots/demo/", json={"rate_limit_per_user_per_minute": 0})
        answers = list(pool.map(lambda number: _answer(rest, number), range(QUESTIONS)))
    lost = [answer.text for answer in answers if answer.status_code != 200]
    if lost:
        raise SystemExit(f"{len(lost)} questions were not answered; the first: {lost[0]}")


def _answer(rest: httpx.Client, number: int) -> httpx.Response:
    return rest.post("bots/demo/messages/", json={"text": f"Question {number}", "user": f"person-{number % 40}"})


def _report(when: str, site: Site) -> float:
    """Print a line a kind of process; returns the sum in MiB."""
    print(f"\n{when}:")
    total_mib = 0.0
    for name, pids in _groups(site).items():
        mib = sum(map(_pss_mib, pids))
        total_mib += mib
        print(f"  {name:<32}{len(pids):>4} processes {mib:>7.0f} MiB")
    print(f"  {'together':<48}{total_mib:>7.0f} MiB")
    return total_mib


def _groups(site: Site) -> dict[str, list[int]]:
    """Processes by what they are. PostgreSQL and Redis are children of scripts/servers.py, as this process is."""
    stats = running()
    groups: dict[str, list[int]] = {}
    for process in site.processes:
        words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        pids = [stat.pid for stat in tree([process.pid], stats)]
        _refuse_torch(pids)
        groups[_name(words)] = pids
    siblings = [stat.pid for stat in stats if stat.parent == os.getppid() and stat.pid != os.getpid()]
    for pid in siblings:
        groups[Path(f"/proc/{pid}/comm").read_text().strip()] = [stat.pid for stat in tree([pid], stats)]
    return groups


def _name(words: list[str]) -> str:
    known = {"daphne": "site (daphne)", "beat": "scheduler (beat)", "listen": "long connections (listen)"}
    queue = next((f"worker -Q {words[at + 1]}" for at, word in enumerate(words) if word == "-Q"), "")
    return queue or next((name for word, name in known.items() if word in words), words[-1])


def _refuse_torch(pids: Iterable[int]) -> None:
    for pid in pids:
        if "libtorch" in Path(f"/proc/{pid}/maps").read_text():
            raise SystemExit("torch is loaded, although the only model is a remote one")


def _pss_mib(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
