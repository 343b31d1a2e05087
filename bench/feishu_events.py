"""What one encrypted Feishu event costs: verified, opened and parsed into a value, beside Feishu's official SDK.

    python -m bench.feishu_events [--quick] [--sdk-python PATH] [--no-sdk] [--out FOLDER]

Both take the same signed event in turn, each in a process of its own. Without ``--sdk-python``, the Python of an
environment that has lark-oapi, one is made for the run and thrown away; where that fails only ours is measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import machine
from bench.figures import middle
from bench.processes import ROOT
from bench.tables import table
from integrations.feishu import crypto, events, opening
from integrations.values import Challenge, Credentials, IncomingMessage, WebhookRequest

NAME: Final = "feishu-events"
SDK: Final = "lark-oapi==1.7.5"
EVENT_BYTES: Final = 1_400
WANTED_US: Final = 150.0
NONCE: Final = "583920174"
APP: Final = Credentials(
    id="1",
    platform="feishu",
    app_id="cli_bench",
    api_url="https://open.feishu.cn",
    verification_token="bench-verification-token",  # noqa: S106  (of a made-up app)
    encrypt_key="bench-encrypt-key",
    own_id="ou_bot",
)


@dataclass(slots=True)
class Report:
    """Microseconds of CPU an event, one figure a round. ``theirs`` is empty where the SDK was not to be had."""

    command: str
    taken_at: str
    machine: dict[str, str]
    body_bytes: int
    events_a_round: int
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    sdk_version: str = ""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        raw = {**asdict(self), "wanted_us": WANTED_US}
        (folder / f"{NAME}.json").write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (folder / f"{NAME}.md").write_text(self.markdown(), "utf-8")

    def markdown(self) -> str:
        verdict = "reached" if middle(self.ours) < WANTED_US else "missed"
        rows = [("ClawdBot", *_figures(self.ours))]
        if self.theirs:
            rows.append((f"lark-oapi {self.sdk_version}", *_figures(self.theirs)))
        lines = [
            "# One encrypted Feishu event: what it costs\n",
            f"Made by `{self.command}` on {self.taken_at}; do not edit. How it is measured: [README.md](README.md).\n",
            f"A signed and encrypted message event of {self.body_bytes:,} bytes, from raw bytes to a parsed value. "
            f"{len(self.ours)} rounds of {self.events_a_round:,} events each, in turn.\n",
            table(("microseconds of CPU an event", "median", "best round", "worst round"), rows),
            f"Wanted: under {WANTED_US:.0f} µs. **{verdict}**.",
            "" if self.theirs else "The official SDK was not measured in this run.\n",
            "## Machine\n",
            table(("what", "value"), self.machine.items()),
        ]
        return "\n".join(line for line in lines if line)


def _figures(samples: list[float]) -> tuple[str, str, str]:
    return f"{middle(samples):.1f}", f"{min(samples):.1f}", f"{max(samples):.1f}"


def request() -> WebhookRequest:
    """A signed event of this moment, whose sealed body is just above EVENT_BYTES."""
    words = "请问杭州办公室周四午餐供应什么？"
    text = words
    while len(body := _sealed(text)) < EVENT_BYTES:
        text += words[len(text) % len(words)]
    now_s = time.time()
    stamp = str(int(now_s))
    headers = {
        "x-lark-request-timestamp": stamp,
        "x-lark-request-nonce": NONCE,
        "x-lark-signature": crypto.event_signature(stamp, NONCE, APP.encrypt_key, body),
    }
    return WebhookRequest(headers, body, now_s)


def _sealed(text: str) -> bytes:
    event = json.dumps(_event(f"@_user_1 {text}"), ensure_ascii=False, separators=(",", ":")).encode()
    return json.dumps({"encrypt": crypto.encrypt(event, APP.encrypt_key)}).encode()


def _event(text: str) -> dict[str, Any]:
    person = {"union_id": "on_person", "user_id": None, "open_id": "ou_person"}
    bot = {"union_id": "on_bot", "user_id": None, "open_id": APP.own_id}
    message = {
        "message_id": "om_bench",
        "create_time": "1790000000100",
        "update_time": "1790000000100",
        "chat_id": "oc_bench",
        "chat_type": "group",
        "message_type": "text",
        "content": json.dumps({"text": text}, ensure_ascii=False),
        "mentions": [{"key": "@_user_1", "id": bot, "mentioned_type": "bot", "name": "Clawd", "tenant_key": "bench"}],
    }
    header = {
        "event_id": "evt_bench",
        "token": APP.verification_token,
        "create_time": "1790000000123",
        "event_type": "im.message.receive_v1",
        "tenant_key": "bench",
        "app_id": APP.app_id,
    }
    sender = {"sender_id": person, "sender_type": "user", "tenant_key": "bench"}
    return {"schema": "2.0", "header": header, "event": {"sender": sender, "message": message}}


def ours_us(given: WebhookRequest, times: int) -> float:
    """Microseconds of CPU an event of our own code, as `FeishuAdapter.receive` does it."""
    began = time.process_time()
    for _ in range(times):
        payload = opening.open_request(given, APP)
        if isinstance(payload, Challenge):
            raise TypeError("an event was taken for a challenge")
        value = events.parse(payload, APP)
    took_s = time.process_time() - began
    if not isinstance(value, IncomingMessage):
        raise TypeError("the event was not understood")
    return took_s / times * 1e6


class Sdk:
    """The official SDK in a process of its own, which waits while ours is measured."""

    def __init__(self, python: Path, given: WebhookRequest) -> None:
        script = ROOT / "bench" / "baselines" / "feishu_sdk.py"
        self._process = subprocess.Popen(
            [str(python), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        headers = {_as_sent(name): value for name, value in given.headers.items()}
        secrets = {"encrypt_key": APP.encrypt_key, "token": APP.verification_token}
        self.version = self._ask(json.dumps({"headers": headers, "body": given.body.decode(), **secrets}))

    def us(self, times: int) -> float:
        return float(self._ask(str(times)))

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline().strip()):
            raise RuntimeError("the official SDK ended; what it said stands above")
        return answer


def _as_sent(name: str) -> str:
    """The SDK looks headers up by their exact capitals."""
    return "-".join(word.capitalize() for word in name.split("-"))


@contextmanager
def sdk_python(given: Path | None) -> Iterator[Path | None]:
    """A Python that has the SDK; None where none can be made (no package index)."""
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        say(f"installing {SDK} into an environment for this run")
        done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", SDK], check=False)
        yield python if done.returncode == 0 else None


def measure(report: Report, python: Path | None, rounds: int) -> None:
    given = request()
    sdk = Sdk(python, given) if python else None
    times = report.events_a_round
    for number in range(rounds + 1):
        ours, theirs_us = ours_us(given, times), sdk.us(times) if sdk else None
        if number == 0:
            continue  # it warms both
        report.ours.append(ours)
        if theirs_us:
            report.theirs.append(theirs_us)
        theirs = f", SDK {report.theirs[-1]:.1f} µs" if sdk else ""
        say(f"round {number}: ours {report.ours[-1]:.1f} µs{theirs}")
    if sdk:
        report.sdk_version = sdk.version
        sdk.close()


def main(words: list[str]) -> None:
    given = _arguments(words)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    command = " ".join(["python -m bench.feishu_events", *(w for w in words if w in ("--quick", "--no-sdk"))])
    report = Report(
        command, now, machine.bare_facts("cryptography"), len(request().body), 500 if given.quick else 5_000
    )
    rounds = 3 if given.quick else 9
    if given.no_sdk:
        measure(report, None, rounds)
    else:
        with sdk_python(given.sdk_python) as python:
            measure(report, python, rounds)
    folder = given.out or ROOT / ("var/bench" if given.quick else "docs/benchmarks")
    report.write(folder)
    say(f"ours {middle(report.ours):.1f} µs, SDK {middle(report.theirs):.1f} µs an event; {folder / NAME}.md and .json")


def say(line: str) -> None:
    print(line, flush=True)


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.feishu_events", description="What a Feishu event costs.")
    parser.add_argument("--quick", action="store_true", help="a few seconds; figures worth little")
    parser.add_argument("--sdk-python", type=Path, help="the Python of an environment that has lark-oapi")
    parser.add_argument("--no-sdk", action="store_true", help="measure ours alone")
    parser.add_argument("--out", type=Path, help="where the report goes")
    return parser.parse_args(words)


if __name__ == "__main__":
    main(sys.argv[1:])
