"""A site's processes: killed, told to end, and what they tell of themselves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import running, tree
from tests.bots.e2e.talking import Talk
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService, Script
from tests.servers.site import ROOT, Site, free_port, until


@pytest.mark.rule("W5")
@pytest.mark.parametrize("mode", [pytest.param("text", marks=pytest.mark.long), "stream"])
def test_a_site_killed_while_it_answers_loses_and_doubles_nothing(
    site: Site, feishu: FakeFeishu, service: ModelService, mode: str
) -> None:
    talk = Talk(site, feishu, reply_mode=mode)
    asked = len(service.requests)
    service.script(Script(["one ", "two ", "three ", "END"], piece_s=0.4))
    talk.say("Hello")
    until(lambda: len(service.requests) > asked, "the model is never asked")
    time.sleep(0.9)

    site.kill()
    service.script(Script(["one ", "two ", "three ", "END"]))
    restart(site)

    until(lambda: talk.texts() == ["one two three END"], f"people see {talk.texts()}", 60)
    service.script(Script())
    time.sleep(2)
    assert talk.texts() == ["one two three END"]


def restart(site: Site) -> None:
    if "REDIS_URL" in site.env:
        site.start_production()
    else:
        site.start()


def test_doctor_finds_a_worker_for_each_queue(site: Site) -> None:
    command = [sys.executable, "manage.py", "doctor", "--json"]
    shown = subprocess.run(command, cwd=ROOT, env=site.env, capture_output=True, text=True, timeout=120, check=False)

    found = json.loads(shown.stdout)["findings"]
    told = {one["what"]: one["level"] for one in found if one["check"] in ("broker", "workers", "scheduler", "site")}
    assert set(told.values()) == {"ok"}
    queues = ["1 workers listen to the queue inference.", "1 workers listen to the queue delivery."]
    assert [what in told for what in queues] == ["REDIS_URL" in site.env] * 2


def test_every_process_ends_soon_when_told_to(site: Site, feishu: FakeFeishu) -> None:
    talk = Talk(site, feishu, reply_mode="stream")
    talk.say("Hello")
    until(lambda: talk.texts(), "nobody sees an answer")

    started = time.monotonic()
    site.stop()
    took_s = time.monotonic() - started

    restart(site)
    assert took_s < 30, f"stopping took {took_s:.0f} s"


def test_it_answers_without_torch_and_its_workers_tell_what_they_do(site: Site, service: ModelService):
    service.script(Script())
    with site.rest() as rest:
        asked = rest.post("bots/demo/messages/", json={"text": "Hello"}).json()
        workers = until(lambda: rest.get("models/?name=remote").json()["results"][0]["workers"], "no worker told", 15)
        reply = rest.get(f"messages/{asked['id']}/").json()

    assert (asked["text"].splitlines()[0], reply["model"]) == ("echo: Hello", "remote")
    assert {worker["state"] for worker in workers} == {"ready"}
    assert workers[0]["stats"]["running"] == 0
    assert workers[0]["memory_bytes"] > 20 << 20
    pids = [stat.pid for process in site.processes for stat in tree([process.pid], running())]
    assert [pid for pid in pids if "libtorch" in Path(f"/proc/{pid}/maps").read_text()] == []


def test_requests_leave_no_connection_behind(site: Site) -> None:
    with site.rest() as rest:
        rest.get("bots/").raise_for_status()
        before = connections_of(site)
        for _ in range(60):
            rest.get("bots/").raise_for_status()

    assert connections_of(site) - before < 10


def connections_of(site: Site) -> int:
    """To the database, of all its processes."""
    if "DATABASE_URL" in site.env:
        with psycopg.connect(site.env["DATABASE_URL"]) as line:
            row = line.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
        assert row
        return int(row[0])
    pids = [stat.pid for process in site.processes for stat in tree([process.pid], running())]
    files = [fd.readlink().name for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
    return sum(file.endswith(".sqlite3") for file in files)


CONTRACT = {
    "clawdbot_webhook_seconds_count": {"platform", "outcome"},
    "clawdbot_http_requests_total": {"route", "method", "status"},
    "clawdbot_http_request_seconds_count": {"route"},
    "clawdbot_messages_total": {"platform", "bot", "outcome"},
    "clawdbot_stage_seconds_count": {"stage"},
    "clawdbot_inference_first_token_seconds_count": {"model"},
    "clawdbot_inference_tokens_total": {"model", "kind"},
    "clawdbot_inference_batch_size_count": {"model"},
    "clawdbot_queue_oldest_seconds": {"queue"},
    "clawdbot_queue_depth": {"queue"},
    "clawdbot_platform_calls_total": {"platform", "call", "outcome"},
    "clawdbot_platform_quota_used": {"platform", "credential"},
    "clawdbot_dead_letters": set(),
    "clawdbot_audit_unsealed": set(),
    "clawdbot_key_age_days": {"kind"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}


def test_every_metric_of_the_contract_is_told_with_its_labels(site: Site, feishu: FakeFeishu, service: ModelService):
    """By the site and, in the production shape, by a worker on WORKER_METRICS_PORT."""
    service.script(Script(["a ", "slow ", "answer"], piece_s=0.6))  # so long that its batch is looked at
    talk, addresses, others = Talk(site, feishu, reply_mode="text"), [site.url], []
    if "REDIS_URL" in site.env:
        others = [one for one in site.processes if "worker" in one.args]
        addresses.append(f"http://127.0.0.1:{(port := free_port())}")
        site.env["WORKER_METRICS_PORT"] = str(port)
        worker = ("-m", "celery", "-A", "clawdbot_site", "worker", "-P", "threads", "-c", "2")
        site.spawn(*worker, "-Q", "inference,delivery,default", "-n", "metrics@%h")
        del site.env["WORKER_METRICS_PORT"]
        until(lambda: _answers(addresses[1]), "the worker tells no metrics", 60)
    for one in others:
        one.send_signal(signal.SIGSTOP)  # else they may be the ones who answer, and tell no metrics
    said = 0
    while (missing := CONTRACT.keys() - _told(addresses).keys()) and said < 12:
        said += 1
        talk.say("Hello")
        until(lambda: len(talk.texts()) >= said, f"no answer; missing: {missing}")  # noqa: B023  (asked at once)
    told = _told(addresses)
    service.script(Script())
    for one in others:
        one.send_signal(signal.SIGCONT)
    if "REDIS_URL" in site.env:
        extra = site.processes.pop()
        extra.kill()
        extra.wait(10)

    assert {name: told.get(name) for name in CONTRACT} == CONTRACT


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/metrics", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _told(addresses: list[str]) -> dict[str, set[str]]:
    """Names of series -> names of their labels."""
    found: dict[str, set[str]] = {}
    for address in addresses:
        text = httpx.get(f"{address}/metrics", trust_env=False, timeout=10).text
        for family in text_string_to_metric_families(text):
            found |= {sample.name: set(sample.labels) - {"le"} for sample in family.samples}
    return found


def test_a_worker_told_to_stop_ends_its_answer_first(site: Site, service: ModelService):
    """Last in this file: nobody answers on this site afterwards."""
    service.script(Script(["one ", "two ", "three ", "four"], piece_s=0.5))
    text = f"Count {site.port}"
    told = site.processes[0] if len(site.processes) == 1 else worker_of(site)
    with site.rest() as rest, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(rest.post, "bots/demo/messages/", json={"text": text})
        until(lambda: any(one.written_at for one in service.requests if text in str(one.body)), "no answer begins")
        asked = next(one for one in service.requests if text in str(one.body) and one.written_at)
        told.terminate()
        if told is site.processes[0]:  # the embedded site is its own worker: who asked lost the line
            asking.exception(30)
        else:
            assert asking.result(30).json()["text"].startswith("one two three four")

    service.script(Script())
    assert told.wait(30) == 0
    assert len(asked.written_at) == 4


def worker_of(site: Site) -> Popen[bytes]:
    return next(one for one in site.processes if "inference@%h" in " ".join(map(str, one.args)))
