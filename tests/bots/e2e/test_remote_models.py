"""A site with remote models only, as real processes: small, and open about what its workers do."""

from __future__ import annotations

from pathlib import Path

from bench.processes import running, tree
from tests.servers.model_service import ModelService
from tests.servers.site import Site, until


def test_it_answers_without_torch_and_its_workers_tell_what_they_do(site: Site, service: ModelService):
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
