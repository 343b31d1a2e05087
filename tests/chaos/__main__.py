"""``make chaos``: a run with its report. Exits with 1 where a person in a chat would have noticed a fault."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos import report
from tests.chaos.conductor import Conductor, Options
from tests.chaos.matrix import SAFEGUARDS
from tests.chaos.site import ChaosSite


def options(words: list[str]) -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    defaults = Options()
    parser.add_argument("--messages", type=int, default=defaults.messages)
    parser.add_argument("--conversations", type=int, default=defaults.conversations)
    parser.add_argument("--kills", type=int, default=defaults.kills, help="of each kind of process")
    parser.add_argument("--rate", type=float, default=defaults.rate, help="messages a second, at most")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--without", choices=SAFEGUARDS, default="", help="switch a safeguard off, to see the faults")
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="no kills and messages after that")
    parser.add_argument("--report", type=Path, help="write REPORT.json and REPORT.md")
    given = vars(parser.parse_args(words))
    path: Path | None = given.pop("report")
    return Options(**given), path


def main(words: list[str]) -> int:
    wanted, path = options(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end too
    with tempfile.TemporaryDirectory(prefix="clawdbot-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        with ChaosSite(folder, wanted.without) as site:
            outcome = Conductor(wanted, site, say=lambda line: print(line, flush=True)).run()
    text = report.markdown(wanted, outcome, ["python", "-m", "tests.chaos", *words])
    print(text)
    print(*(f"{tag}: {line}" for tag, lines in outcome.evidence.items() for line in lines), sep="\n")
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".md").write_text(text, "utf-8")
        path.with_suffix(".json").write_text(report.as_json(wanted, outcome), "utf-8")
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
