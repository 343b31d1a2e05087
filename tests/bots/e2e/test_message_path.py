"""A person writes on Feishu. The site is real processes; platform and model service are fakes on real sockets."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.bots.documents import samples
from tests.bots.e2e.talking import Talk
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.model_service import ModelService, Script
from tests.servers.site import Site, random_name, until


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
