"""A site with remote models only, as real processes: small, and open about what its workers do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

from bench.processes import running, tree
from tests.servers.model_service import ModelService, Script
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


def test_a_worker_told_to_stop_ends_its_answer_first(site: Site, service: ModelService):
    """Last in this file: the site has no worker for answers afterwards."""
    service.script(Script(["one ", "two ", "three ", "four"], piece_s=0.5))
    told = site.processes[0] if len(site.processes) == 1 else worker_of(site)
    with site.rest() as rest, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(rest.post, "bots/demo/messages/", json={"text": "Count"})
        until(lambda: any(one.written_at for one in service.requests if "Count" in str(one.body)), "no answer begins")
        asked = next(one for one in service.requests if "Count" in str(one.body) and one.written_at)
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
