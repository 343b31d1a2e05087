"""Empties a site into the sinks: every page and resource while it runs, its files and its database afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from tests.canary.acting import Cast
from tests.canary.signing_in import Caller
from tests.canary.sinks import command_lines, dumped, kept_in_redis, restored

OWN_PAGE = "an endpoint's own page"
OWN_RESOURCE = "an endpoint's own resource"
LINK = re.compile(r'href="(/admin/[^"?#]*)')
NOT_OPENED = ("/logout/", "/export", "/delete/", "/static/", "/jsi18n/")
MOST_PAGES = 500
CLOSED = "127.0.0.1:9"


def while_it_runs(cast: Cast, folder: Path) -> None:
    _pages(cast)
    _resources(cast)
    _exports(cast)
    _metrics(cast)
    _commands(cast, folder)
    cast.sinks.add("command lines", command_lines(process.pid for process in cast.site.processes))
    cast.sinks.add("kept in Redis", kept_in_redis(cast.site.env["REDIS_URL"]))


def afterwards(cast: Cast, folder: Path, queued: bytes) -> None:
    site, near, sinks = cast.site, cast.near, cast.sinks
    for name, path in site.outputs.items():
        sinks.add(f"output of the {name}", path.read_bytes())
    sinks.add_folder("log files", folder / "logs")
    sinks.add_folder("data folder", site.data_dir, but=("static",))
    sinks.add("commands to Redis", queued)
    sinks.add("forwarded logs", near.logs.heard)
    sinks.add("forwarded audit log", near.audit.heard)
    sinks.add("alerts to a webhook", near.alerts.heard)
    sinks.add("database", dumped(site.env["DATABASE_URL"]))


def _pages(cast: Cast) -> None:
    """Every page of the admin that a link leads to."""
    names = {row["id"]: name for name, row in cast.endpoints.items()}
    seen, waiting = {"/admin/"}, ["/admin/", *(f"/admin/bots/endpoint/{pk}/change/" for pk in names)]
    while waiting and len(seen) < MOST_PAGES:
        path = waiting.pop(0)
        owner = next((name for pk, name in names.items() if f"/endpoint/{pk}/change/" in path), "")
        answer = cast.page("GET", path, shows=[owner] if owner else (), sink=OWN_PAGE if owner else "")
        assert answer.status_code < 500, path
        found = [link for link in LINK.findall(answer.text) if not any(word in link for word in NOT_OPENED)]
        waiting += dict.fromkeys(link for link in found if link not in seen)
        seen |= {*found}
    assert len(seen) > 50, seen


def _resources(cast: Cast) -> None:
    """Every resource and each of its rows: for who may change them, and for a reader."""
    reader = Caller(cast.site, cast.sinks, "REST answers to a reader", cast.control, f"Api-Key {cast.key}")
    schema = cast.anybody("GET", "/api/schema/?format=json").json()
    lists = [path for path, does in schema["paths"].items() if "get" in does and "{" not in path]
    assert len(lists) > 15, lists
    for path in lists:
        sink, shows = (OWN_RESOURCE, [*cast.endpoints]) if path.startswith("/api/v1/endpoints/") else ("", [])
        answer = cast.rest("GET", path, params={"page_size": 200}, sink=sink, shows=shows)
        reader("GET", path, params={"page_size": 200})
        for row in _rows(answer):
            cast.rest("GET", f"{path}{row}/", sink=sink, shows=shows)
            reader("GET", f"{path}{row}/")
    reader.close()


def _rows(answer: httpx.Response) -> list[Any]:
    body = answer.json() if answer.status_code == 200 and "json" in answer.headers.get("content-type", "") else {}
    rows = body.get("results", []) if isinstance(body, dict) else []
    return [row.get("slug") or row["id"] for row in rows[:40] if "id" in row]


def _exports(cast: Cast) -> None:
    for form in ("csv", "jsonl"):
        answer = cast.rest("GET", "/api/v1/audit-logs/", params={"format": form}, sink=f"audit log as {form}")
        assert answer.status_code == 200, answer.text
    for path in re.findall(
        r'href="(/admin/monitoring/auditlog/export[^"]*)', cast.page("GET", "/admin/monitoring/auditlog/").text
    ):
        cast.page("GET", path, sink="audit log from the admin")


def _metrics(cast: Cast) -> None:
    token = cast.plants["METRICS_TOKEN"]
    for name, url in cast.site.metrics_urls.items():
        for given in (token, f"{token}x"):
            answer = httpx.get(url, headers={"Authorization": f"Bearer {given}"}, trust_env=False, timeout=30)
            assert answer.status_code == (200 if given == token else 403), answer.text
            cast.sinks.add(f"metrics of the {name}", answer.content)
        cast.sinks.add(f"metrics of the {name}", httpx.get(f"{url}?token={token}", trust_env=False, timeout=30).content)


def _commands(cast: Cast, folder: Path) -> None:
    site, sinks, plants = cast.site, cast.sinks, cast.plants
    for words in (("doctor",), ("doctor", "--json"), ("keys", "status"), ("audit", "verify"), ("audit", "export")):
        sinks.add(f"output of {' '.join(words)}", site.told(*words))
    sinks.add("output of backup", site.told("backup", f"--output={folder / 'copies'}"))
    (made,) = (folder / "copies").iterdir()
    sinks.add_folder("backup", made)
    sinks.add("backup", restored(made / "database.dump"))
    sinks.add("output of keys rotate", site.told("keys", "rotate") + site.told("keys", "reencrypt"))
    for name, value in _wrong_settings(plants).items():
        sinks.add("output with wrong settings", site.told("doctor", **{name: value}))


def _wrong_settings(plants: Any) -> dict[str, str]:
    password = plants["password of the database"]
    return {
        "DATABASE_URL": f"postgres://clawdbot:{password}@{CLOSED}/x",
        "REDIS_URL": f"redis://:{plants['password of Redis']}@{CLOSED}/0",
        "FIELD_ENCRYPTION_KEYS": f"{plants['key-encryption key']}x",
        "SECRET_KEY": plants.new("short SECRET_KEY")[:31],
        "EMAIL_URL": f"pigeon://alerts:{plants['password of the mail server']}@{CLOSED}",
        "AUDIT_SINKS": f"gopher://{CLOSED}/?token={plants['token of an audit sink']}",
        "AUDIT_FORWARD_TO": f"gopher://{CLOSED}/?key={plants['key of the audit receiver']}",
        "LOG_FORWARD_TO": f"gopher://{CLOSED}/?key={plants['key of the log receiver']}",
    }
