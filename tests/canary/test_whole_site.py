"""A run of a whole site with secrets planted by every way that one enters it: none comes out anywhere (rule E10)."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.canary import collecting
from tests.canary.acting import Cast
from tests.canary.search import Canary, Search
from tests.canary.sinks import Monitor, Sinks
from tests.canary.site import CanarySite, Plants, environment, neighbours, redis_with

# Where a word must turn up that was planted as the secrets were: there the search would have found them.
WITH_CONTROL = {
    "REST answers",
    "REST answers to a reader",
    "admin pages",
    "answers to anybody",
    "audit log as csv",
    "audit log as jsonl",
    "backup",
    "commands to Redis",
    "database",
    "forwarded audit log",
    "forwarded logs",
    "frames of WebSockets",
    "log files",
    "output of audit export",
    "output of the site",
    collecting.OWN_PAGE,
    collecting.OWN_RESOURCE,
}


@pytest.mark.long
@pytest.mark.rule("E10")
def test_no_planted_secret_comes_out_of_a_whole_site_anywhere(tmp_path: Path) -> None:
    plants, sinks, control = Plants(), Sinks(), f"control-{secrets.token_hex(8)}"
    with neighbours(plants) as near, redis_with(plants.new("password of Redis")) as redis_url:
        env = environment(plants, near, redis_url, tmp_path / "logs")
        site = CanarySite(tmp_path / "data", **env)
        site.data_dir.mkdir()
        try:
            with Monitor(redis_url) as monitor:
                site.start_production()
                cast = Cast(site, near, plants, sinks, control)
                cast.page_sign_in()
                cast.set_up()
                cast.talk()
                cast.wait_for_answers()
                cast.second_factor()
                collecting.while_it_runs(cast, tmp_path)
                cast.close()
                site.stop()
        finally:
            site.close()
        collecting.afterwards(cast, tmp_path, monitor.heard)

    keys = [name for name in plants if name.startswith("key ") and name.endswith("of an endpoint")]
    assert (len(plants) >= 50, len(keys)) == (True, 10)
    leaks = sinks.leaks(plants.search())
    assert not leaks, "\n".join(leaks)
    assert WITH_CONTROL - sinks.with_hits(Search([Canary("control", control)])) == set()
    assert sinks.empty() == set()
