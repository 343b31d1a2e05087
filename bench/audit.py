"""Benchmark of the audit log: what an audited change costs, how fast the sealer and the verifier are.

    python -m bench.audit [--quick] [--out FOLDER]

On SQLite and on a private PostgreSQL that is started here and gone afterwards.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench import machine
from bench.processes import ROOT
from bench.stores import postgres
from bench.tables import shown, table
from scripts import servers

NAME = "audit"
REPORTS, TRIALS = ROOT / "docs" / "benchmarks", ROOT / "var" / "bench"
FULL, QUICK = (60_000, 600), (20_000, 400)  # entries, changes
SHOWN = ("PATH", "HOME", "LANG")


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    figure: str
    wanted: float
    unit: str
    is_most: bool = False

    def is_reached(self, found: float) -> bool:
        return found <= self.wanted if self.is_most else found >= self.wanted

    @property
    def words(self) -> str:
        return f"{'at most' if self.is_most else 'at least'} {self.wanted:,.0f} {self.unit}"


COLUMNS = {
    "plain_change_ms": "change, ms",
    "audited_change_ms": "audited change, ms",
    "write_rows_per_s": "entries written/s",
    "seal_cpu_us": "sealing, CPU µs a row",
    "verify_cpu_us": "verifying, CPU µs a row",
}
TARGETS = (
    Target("auditing one change", "audit_ms", 1.0, "ms", is_most=True),
    Target("sealing", "seal_rows_per_s", 10_000, "rows/s"),
    Target("verifying", "verify_rows_per_s", 50_000, "rows/s"),
)


def main(words: list[str]) -> None:
    given = _arguments(words)
    servers.install_missing()
    rows, changes = QUICK if given.quick else FULL
    with postgres() as database, tempfile.TemporaryDirectory() as folder:
        servers.wait_for(lambda: _takes_connections(database.url), "PostgreSQL")  # its port is open before it is
        facts = machine.facts(database)
        found = {
            "SQLite": _inside(Path(folder), "", rows, changes),
            "PostgreSQL": _inside(Path(folder), database.create("audit"), rows, changes),
        }
    folder_out = given.out or (TRIALS if given.quick else REPORTS)
    folder_out.mkdir(parents=True, exist_ok=True)
    taken_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    raw = {"taken_at": taken_at, "machine": facts, "found": found}
    (folder_out / f"{NAME}.json").write_text(json.dumps(raw, indent=1) + "\n", "utf-8")
    text = _markdown(shlex.join(["python", "-m", "bench.audit", *words]), taken_at, facts, found)
    (folder_out / f"{NAME}.md").write_text(text, "utf-8")
    print(text)


def _takes_connections(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _inside(folder: Path, url: str, rows: int, changes: int) -> dict[str, float]:
    """A site of its own: empty database, keys, no sink but a folder."""
    data_dir = folder / ("postgresql" if url else "sqlite")
    data_dir.mkdir()
    env = {name: os.environ[name] for name in SHOWN if name in os.environ}
    env |= {
        "DJANGO_SETTINGS_MODULE": "clawdbot_site.settings.base",
        "CLAWDBOT_DATA_DIR": str(data_dir),
        "SECRET_KEY": secrets.token_urlsafe(64),
        "FIELD_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        "DATABASE_URL": url,
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "bench.audit_inside", str(rows), str(changes)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _markdown(command: str, taken_at: str, facts: dict[str, str], found: dict[str, dict[str, float]]) -> str:
    verdicts = [
        (
            f"{target.what}, {name}",
            target.words,
            f"{shown(figures[target.figure])} {target.unit}",
            _word(target, figures),
        )
        for target in TARGETS
        for name, figures in found.items()
    ]
    rows = [(name, *(shown(figures[key]) for key in COLUMNS)) for name, figures in found.items()]
    size = next(iter(found.values()))
    return "\n".join(
        [
            "# The audit log: what it costs\n",
            f"Made by `{command}` on {taken_at}; do not edit. Raw figures: [{NAME}.json]({NAME}.json).\n",
            "A change is the update of one row in a transaction of its own, with and without its entry, in turn; the",
            "cost is the difference of the medians. Sealing is of one process, verifying of one a core, over "
            f"{size['rows']:,.0f} entries that were written in batches.\n",
            table(("target", "wanted", "found", ""), verdicts),
            table(("database", *COLUMNS.values()), rows),
            "CPU is that of our process, without the database server's.\n",
            "## Machine\n",
            table(("what", "value"), facts.items()),
        ]
    )


def _word(target: Target, figures: dict[str, float]) -> str:
    return "reached" if target.is_reached(figures[target.figure]) else "**missed**"


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description="Benchmark of the audit log.")
    parser.add_argument("--quick", action="store_true", help="few rows; written below var/bench")
    parser.add_argument("--out", type=Path, help="folder for the report")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
