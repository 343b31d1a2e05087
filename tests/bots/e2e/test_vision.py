"""A bot on a model that sees answers pictures that people send on Feishu and on DingTalk: whole site, real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference.engines.local import seeing
from tests.servers.site import Site, create

pytestmark = pytest.mark.long


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """With a bot ``eyes`` on a tiny Qwen3-VL whose random weights answer by what they are shown."""
    folder = seeing.make_folder(tmp_path / "model")
    running = Site(tmp_path / "var", LANGUAGE_CODE="en")
    try:
        running.start()
        with running.rest() as rest:
            model = {"name": "seeing", "engine": "transformers", "path": str(folder), "vision": True}
            rest.post("models/", json=model).raise_for_status()
            greedy = {"temperature": 0.0, "max_tokens": 12, "reply_mode": "text", "ai_notice": ""}
            create(rest, "bots/", slug="eyes", name="Eyes", model="seeing", **greedy)
        yield running
    finally:
        running.close()


def answer_to(site: Site, platform: str, picture: Path) -> str:
    """What the person reads."""
    shown = site.manage("simulate", platform, "--bot", "eyes", "--text", "What is it?", "--image", str(picture))
    return shown.partition("bot > ")[2].strip()


def test_a_picture_is_seen_and_answered_on_both_platforms(site, tmp_path):
    red, green = tmp_path / "red.png", tmp_path / "green.png"
    red.write_bytes(seeing.picture("red"))
    green.write_bytes(seeing.picture("green", size=(60, 100)))

    for platform in ("feishu", "dingtalk"):
        answers = [answer_to(site, platform, picture) for picture in (red, green, red)]
        assert all(answers), site.log[-3000:]
        assert answers[0] == answers[2] != answers[1]
    with site.rest() as rest:
        model = rest.get("models/?name=seeing").json()["results"][0]
    assert [worker["stats"]["path"] for worker in model["workers"]] == ["paged"]
