"""A bot answers through a model service that somebody else wrote: ``transformers serve`` with the bundled model.

It wants ``accelerate``, which no lock of ours may hold (it would bring torch's CUDA packages): installed apart, here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from inference.loading import DEMO_PATH
from tests.servers.site import Site, create, free_port, until

pytestmark = pytest.mark.long


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """The address of a running service, as MODEL_ENDPOINT wants it."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    program = Path(sys.executable).with_name("transformers")
    words = [str(program), "serve", str(DEMO_PATH), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    extra = tmp_path / "packages"
    wanted = ["--quiet", "--no-deps", "--target", str(extra), "accelerate", "psutil"]
    subprocess.run([sys.executable, "-m", "pip", "install", *wanted], check=True)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(extra)}
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        try:
            until(lambda: answers(address), "the service does not start", 60)
            yield f"{address}/v1"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def site_with(tmp_path: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Starts an embedded site with these settings; returns a client that is signed in."""
    sites: list[Site] = []
    with ExitStack() as at_end:

        def make(**env: str) -> httpx.Client:
            sites.append(Site(tmp_path / "var", LANGUAGE_CODE="en", **env))
            return at_end.enter_context(sites[0].start().rest())

        yield make
    for site in sites:
        site.stop()
        site.close()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_bot_answers_through_it_streams_counts_and_is_checked(service, site_with):
    rest = site_with(MODEL_ENDPOINT=service, MODEL_NAME=str(DEMO_PATH))
    asked = rest.post("bots/demo/messages/", json={"text": "What is ClawdBot?"}).json()
    assert asked["status"] == "delivered", rest.get(f"messages/{asked['message_id']}/").json()
    assert "ClawdBot" in asked["text"]
    assert asked["usage"]["prompt_tokens"] > 5
    assert asked["usage"]["completion_tokens"] > 5
    with rest.stream("POST", "bots/demo/messages/", json={"text": "What can you do?", "stream": True}) as stream:
        pieces = [line for line in stream.iter_lines() if '"delta"' in line]
    assert len(pieces) > 1

    model = rest.get("models/?name=remote").json()["results"][0]
    checked = rest.post(f"models/{model['id']}/check/").json()
    assert checked["status"] == "ok", checked["status_detail"]
    assert checked["first_token_ms"] > 0


def test_what_it_refuses_is_told_in_its_own_words(service, site_with):
    rest = site_with(MODEL_ENDPOINT=service, MODEL_NAME="no-such-model")
    refused = rest.post("bots/demo/messages/", json={"text": "Hello"})
    assert refused.status_code >= 500
    assert "no-such-model" not in refused.text, "the person reads a polite sentence"

    letter = rest.get("dead-letters/").json()["results"][0]
    assert "no-such-model" in letter["error"]


def test_a_second_model_takes_over_when_the_service_is_gone(service, site_with):
    rest = site_with(MODEL_ENDPOINT="http://127.0.0.1:9/v1")
    create(rest, "models/", name="spare", engine="openai", base_url=service, model=str(DEMO_PATH))
    rest.patch("bots/demo/", json={"fallback_model": "spare"})
    asked = rest.post("bots/demo/messages/", json={"text": "What is ClawdBot?"}, timeout=60).json()
    assert "ClawdBot" in asked["text"]
    assert rest.get(f"messages/{asked['id']}/").json()["model"] == "spare"
