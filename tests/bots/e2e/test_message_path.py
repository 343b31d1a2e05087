"""A person writes on Feishu. The site is real processes; platform and model service are fakes on real sockets."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import ClientConnection, connect

from bench.processes import running, tree
from integrations.feishu.crypto import encrypt, event_signature
from tests.bots.documents import samples
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService, Script
from tests.servers.site import ROOT, Site, create, free_port, random_name, until


class Talk:
    """One Feishu app joined to a bot of the site, and one person in a direct chat with it."""

    def __init__(self, site: Site, feishu: FakeFeishu, **bot: object) -> None:
        self.site, self.feishu = site, feishu
        self.slug, self.secret = random_name(), secrets.token_urlsafe(24)
        feishu.app_id = f"cli_{random_name()}"
        with site.rest() as rest:
            create(rest, "bots/", slug=self.slug, name=self.slug, model="remote", **bot)
            credential = create(
                rest,
                "credentials/",
                name=self.slug,
                platform="feishu",
                app_id=feishu.app_id,
                app_secret=feishu.app_secret,
                verification_token=self.secret,
                encrypt_key=self.secret,
                base_url=feishu.url,
            )
            self.endpoint = create(rest, "endpoints/", bot=self.slug, credential=credential["id"], mode="webhook")

    def say(self, text: str, message_id: str | None = None) -> httpx.Response:
        return self._post(_event(self.feishu.app_id, self.secret, text, message_id or f"om_{secrets.token_hex(8)}"))

    def press(self, value: object) -> httpx.Response:
        event = {"operator": {"open_id": "ou_e2e"}, "action": {"value": value}, "context": {"open_chat_id": "oc_e2e"}}
        header = _header(self.feishu.app_id, self.secret, "card.action.trigger")
        return self._post({"schema": "2.0", "header": header, "event": event})

    def stop_value(self) -> object:
        """What the stop button of the growing card holds; None while there is none."""
        shown = json.dumps([card.data for card in self.feishu.cards.values() if card.is_sent])
        found = re.search(r'\{"clawdbot": "(stop\.[^"]+)"\}', shown)
        return {"clawdbot": found[1]} if found else None

    def _post(self, event: dict[str, object]) -> httpx.Response:
        body = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), self.secret)}).encode()
        timestamp, nonce = str(int(time.time())), secrets.token_hex(8)
        headers = {
            "Content-Type": "application/json",
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": event_signature(timestamp, nonce, self.secret, body),
        }
        path = f"/webhooks/feishu/{self.endpoint['key']}/"
        return httpx.post(f"{self.site.url}{path}", content=body, headers=headers, trust_env=False, timeout=10)

    def texts(self) -> list[str]:
        return list(self.feishu.texts)


def _event(app_id: str, token: str, text: str, message_id: str) -> dict[str, object]:
    message = {
        "message_id": message_id,
        "create_time": str(int(time.time() * 1000)),
        "chat_id": "oc_e2e",
        "chat_type": "p2p",
        "message_type": "text",
        "content": json.dumps({"text": text}),
    }
    sender = {"sender_id": {"open_id": "ou_e2e", "union_id": "on_e2e"}, "sender_type": "user", "tenant_key": "t"}
    header = _header(app_id, token, "im.message.receive_v1")
    return {"schema": "2.0", "header": header, "event": {"sender": sender, "message": message}}


def _header(app_id: str, token: str, event_type: str) -> dict[str, object]:
    return {
        "event_id": secrets.token_hex(8),
        "token": token,
        "create_time": str(int(time.time() * 1000)),
        "event_type": event_type,
        "tenant_key": "t",
        "app_id": app_id,
    }


@pytest.mark.parametrize("mode", ["text", "stream"])
def test_a_feishu_message_is_answered_once_in_both_shapes(site: Site, feishu: FakeFeishu, mode: str) -> None:
    talk = Talk(site, feishu, reply_mode=mode)

    answers = [talk.say("Hello", "om_same").status_code for _ in range(3)]

    assert answers == [200, 200, 200]
    until(lambda: any("Hello" in text for text in talk.texts()), "nobody sees an answer")
    time.sleep(1)
    assert len(talk.texts()) == 1


def test_the_platform_has_its_200_before_the_model_answers(
    site: Site, feishu: FakeFeishu, service: ModelService
) -> None:
    talk = Talk(site, feishu, reply_mode="text")
    service.script(Script(["late"], wait_s=2.0))

    started = time.monotonic()
    talk.say("Hello")
    took_s = time.monotonic() - started

    assert took_s < 1.5
    until(lambda: talk.texts() == ["late"], "the answer never came")
    service.script(Script())


def test_the_stop_button_of_a_card_stops_the_model_within_a_second(
    site: Site, feishu: FakeFeishu, service: ModelService
) -> None:
    talk = Talk(site, feishu, reply_mode="stream")
    service.script(Script([f"word{n} " for n in range(200)], piece_s=0.1))
    talk.say("A long story")
    value = until(talk.stop_value, "the card has no stop button")

    answer = talk.press(value).json()
    has_left = service.requests[-1].left.wait(1.5)

    service.script(Script())
    assert (answer, has_left) == ({"toast": {"type": "success", "content": "Stopped."}}, True)


@pytest.mark.rule("W5")
@pytest.mark.parametrize("mode", ["text", "stream"])
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


def test_the_first_delta_reaches_a_browser_within_50_ms(site: Site, service: ModelService) -> None:
    """From the moment the model service wrote it, on an otherwise idle site; the median of seven answers."""
    with site.rest() as rest:
        token = rest.headers["Authorization"].removeprefix("Bearer ")
    service.script(Script(["first ", "second"], piece_s=0.3))
    with connect(f"{site.url.replace('http', 'ws')}/ws/chat/demo/", proxy=None) as socket:
        socket.send(json.dumps({"type": "auth", "token": token}))
        assert json.loads(socket.recv(10))["type"] == "ready"
        delays_s = sorted(_first_delta_delay_s(socket, service) for _ in range(7))
    service.script(Script())

    assert delays_s[3] < 0.05, f"the first deltas took {[round(d * 1000) for d in delays_s]} ms"


def _first_delta_delay_s(socket: ClientConnection, service: ModelService) -> float:
    socket.send(json.dumps({"type": "message", "id": random_name(), "text": "Hello"}))
    frames: list[tuple[float, dict[str, str]]] = []
    while not frames or frames[-1][1]["type"] != "done":
        frames.append((time.monotonic(), json.loads(socket.recv(20))))
    arrived = [(at, frame["text"]) for at, frame in frames if frame["type"] == "delta"]
    assert [text for _, text in arrived] == ["first ", "second"], "the pieces did not arrive as they were written"
    return arrived[0][0] - service.requests[-1].written_at[0]


@pytest.mark.parametrize("platform", ["feishu", "dingtalk"])
def test_simulate_sends_a_text_with_a_picture_shows_the_reply_and_cleans_up(
    site: Site, service: ModelService, tmp_path: Path, platform: str
) -> None:
    yes = () if "REDIS_URL" not in site.env else ("--yes-in-production",)
    file = tmp_path / "photo.png"
    file.write_bytes(samples.picture())
    with site.rest() as rest:
        remote = rest.get("models/?name=remote").json()["results"][0]["id"]
        rest.patch(f"models/{remote}/", json={"vision": True}).raise_for_status()

    shown = site.manage("simulate", platform, "--text", "Hello simulated", "--image", str(file), *yes)

    question = json.dumps(service.requests[-1].body["messages"][-1])
    assert "data:image/png;base64," in question
    assert "bot > " in shown
    assert "Hello simulated" in shown.partition("bot > ")[2]
    with site.rest() as rest:
        assert [c for c in rest.get("credentials/").json()["results"] if "simulation" in c["name"]] == []


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
