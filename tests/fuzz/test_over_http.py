"""20,000 altered callbacks at the socket of a site in the production shape, by connections that stay open.

No forgery is taken (DingTalk's unsigned bodies apart, see test_receive.py), nothing is stored but what was authentic,
no answer is an error of ours, and none tells a secret.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg
import pytest

from integrations.base import Adapter
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import Credentials, IncomingMessage, WebhookRequest
from tests.bots.e2e.conftest import own_redis, production_env  # noqa: F401  (a fixture)
from tests.canary.search import Canary, Search
from tests.canary.site import letters
from tests.integrations.dingtalk import test_opening as dingtalk
from tests.integrations.doubles import MemoryTokens
from tests.servers.site import Site, create

from . import callbacks
from .callbacks import ALTERED, MISWRITTEN, Make, Wire, as_heard, too_large, wire
from .mutations import mutant
from .test_receive import is_residual, received

pytestmark = [pytest.mark.long, pytest.mark.rule("W1", "W2", "W4", "W7")]
MUTATIONS = 5_000  # of each kind of callback
SIGNED_ANEW_EVERY = 250
TIMEOUT_S = 20.0
NEVER_TAKEN = {"wrong_key", "odd_address", "other_method", "false_length", "cut_off", "smuggled", "too_large"}


@dataclass(frozen=True, slots=True)
class Kind:
    """``secrets`` are the fields of a credential that make its callbacks authentic."""

    platform: str
    make: Make
    secrets: tuple[str, ...]
    has_unsigned_body: bool = False


KINDS = {
    "feishu messages": Kind("feishu", callbacks.feishu_message, ("encrypt_key", "verification_token", "app_id")),
    "dingtalk messages": Kind("dingtalk", callbacks.dingtalk_message, ("app_secret", "app_id", "corp_id"), True),
    "dingtalk events": Kind(
        "dingtalk", callbacks.dingtalk_event, ("verification_token", "encrypt_key", "app_id", "corp_id")
    ),
    "dingtalk buttons": Kind("dingtalk", callbacks.dingtalk_button, ("app_secret", "corp_id"), True),
}


class Line:
    """A connection that is kept as long as the site keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._left = b""

    def ask(self, sent: Wire) -> tuple[int, bytes]:
        for _try in range(2):  # the site may have closed it after the last answer
            if self._socket is None:
                self._socket, self._left = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S), b""
            try:
                self._socket.sendall(sent.written())
                return self._answer()
            except (ConnectionError, EOFError):
                self.close()
        return 0, b""

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None

    def _answer(self) -> tuple[int, bytes]:
        while b"\r\n\r\n" not in self._left:
            self._read()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        found = re.search(rb"(?im)^content-length: *(\d+)", head)
        length = int(found[1]) if found else 0
        while len(self._left) < length:
            self._read()
        body, self._left = self._left[:length], self._left[length:]
        if re.search(rb"(?im)^connection: *close", head):
            self.close()
        return int(head.split(b" ", 2)[1]), head + b"\r\n\r\n" + body

    def _read(self) -> None:
        assert self._socket
        piece = self._socket.recv(1 << 16)
        if not piece:
            raise EOFError
        self._left += piece


def answers_until_the_end(port: int, sent: Wire) -> tuple[list[int], bytes]:
    """On a connection of its own, whose end of ours is closed after what was sent."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as line:
        heard = bytearray()
        try:
            line.sendall(sent.written())
            line.shutdown(socket.SHUT_WR)
            while piece := line.recv(1 << 16):
                heard += piece
        except ConnectionError:
            pass  # it did not want to hear all of it
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", heard)], bytes(heard)


@dataclass
class App:
    """One credential with its endpoint, and what became of the callbacks that named it."""

    own: Credentials
    path: str
    search: Search
    authentic_ids: set[str] = field(default_factory=set)
    residual_ids: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, own_redis: str) -> Iterator[Site]:  # noqa: F811
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    closed = dict.fromkeys(("FEISHU_BASE_URL", "DINGTALK_API_URL", "DINGTALK_OAPI_URL"), "http://127.0.0.1:9")
    made = Site(folder / "data", LOG_LEVEL="WARNING", LANGUAGE_CODE="en", **closed, **production_env(own_redis))
    made.data_dir.mkdir()
    try:
        made.manage("migrate")
        made.spawn("manage.py", "up")  # without workers: nobody need answer
        yield made.wait(180)
    finally:
        made.close()


def new_app(site: Site, rest: httpx.Client, platform: str, name: str) -> App:
    given: dict[str, Any] = {"app_id": f"cli{name}", "app_secret": secrets.token_urlsafe(24)}
    given |= {"verification_token": letters(32)(), "encrypt_key": letters(43)()}
    given |= {"corp_id": f"ding{name}"} if platform == "dingtalk" else {}
    row = create(rest, "credentials/", name=name, platform=platform, **given)
    endpoint = create(rest, "endpoints/", bot="demo", credential=row["id"], mode="webhook", rate_limit_per_minute=0)
    own = Credentials(id=str(row["id"]), platform=platform, api_url="", **given)
    hidden = [Canary(field, given[field]) for field in ("app_secret", "verification_token", "encrypt_key")]
    search = Search([*hidden, Canary("key of the endpoint", str(endpoint["key"]))])
    return App(own, f"/webhooks/{platform}/{endpoint['key']}/", search)


def adapter_of(platform: str) -> Adapter:
    return FeishuAdapter(httpx.Client(trust_env=False), MemoryTokens()) if platform == "feishu" else dingtalk.ADAPTER


class Attack:
    """Mutations of one kind of callback at one app, in one thread."""

    def __init__(self, name: str, port: int, app: App, stranger: App) -> None:
        self.kind, self.app, self._stranger = KINDS[name], app, stranger
        self._port, self._line, self._random, self._name = port, Line(port), Random(name), name
        self._adapter = adapter_of(self.kind.platform)

    def run(self) -> None:
        for number in range(MUTATIONS):
            if number % SIGNED_ANEW_EVERY == 0:
                self._sign()
            self._random.choice([self._altered] * 14 + [self._miswritten] * 3 + [self._false] * 2 + [self._unsigned])()
        for _each in range(4):
            self._send("too_large", too_large(wire(self.authentic[0], self.app.path), self._random))
        self._line.close()

    def _sign(self) -> None:
        """Two authentic callbacks as of now; a platform delivers them first, as ever, then we alter them."""
        ids = [f"{self._name} {number}".replace(" ", "-") for number in range(2)]
        texts = ("Hello", "Delete everything")
        self.authentic = [self.kind.make(self.app.own, *pair, time.time()) for pair in zip(ids, texts, strict=True)]
        self.app.authentic_ids.update(ids)
        for one in self.authentic:
            status, _answer = self._line.ask(wire(one, self.app.path))
            assert status == 200, (status, _answer)

    def _altered(self) -> None:
        """What is asked for is another thing."""
        given, other = self._random.sample(self.authentic, 2)
        change = self._random.choice([mutant] * 8 + list(ALTERED))
        request = replace(change(given, other, self._random), received_at_s=given.received_at_s)
        if request == given:  # only its arrival was altered: that is ours to say, not theirs
            return self._altered()
        status = self._send(change.__name__, wire(request, self.app.path))
        if status == 200:
            self._judge(replace(as_heard(request), received_at_s=time.time()))
        return None

    def _judge(self, request: WebhookRequest) -> None:
        """Of what was taken: is it the original still, or the residual risk?"""
        case = (self._adapter, self.app.own, self.authentic)
        outcome = received(case, request)
        self.app.outcomes[outcome] += 1
        if outcome in ("probe", "the original"):
            return
        if not (self.kind.has_unsigned_body and outcome == "accepted" and is_residual(case, request)):
            self.app.wrong.append(f"taken, and {outcome}: {request} {request.body[:300]!r}")
            return
        opened = self._adapter.receive(request, self.app.own)
        if isinstance(opened, IncomingMessage):
            self.app.residual_ids.add(opened.message_id)

    def _miswritten(self) -> None:
        change = self._random.choice(MISWRITTEN)
        self._send(change.__name__, change(wire(self._random.choice(self.authentic), self.app.path), self._random))

    def _false(self) -> None:
        """Properly signed, but long ago or far ahead, or by another app's secret."""
        own, now = self.app.own, time.time()
        secret = self._random.choice(self.kind.secrets)
        days = self._random.choice((-1, 1)) * self._random.randint(10, 400)
        foreign = replace(own, **{secret: getattr(self._stranger.own, secret)})
        app, at_s = self._random.choice([(own, now + days * 86_400), (foreign, now)])
        request = self.kind.make(app, f"false {secrets.token_hex(4)}", "Delete everything", at_s)
        self._refused("false", request)

    def _unsigned(self) -> None:
        given = self._random.choice(self.authentic)
        self._refused("unsigned", replace(given, headers=callbacks.JSON, query={}))

    def _refused(self, what: str, request: WebhookRequest) -> None:
        status = self._send(what, wire(request, self.app.path))
        if status not in (400, 401):
            self.app.wrong.append(f"{what}: {status} for {request} {request.body[:300]!r}")

    def _send(self, what: str, sent: Wire) -> int:
        if sent.is_whole:
            status, answer = self._line.ask(sent)
            statuses = [status]
        else:
            statuses, answer = answers_until_the_end(self._port, sent)
        self.app.outcomes.update(f"{status} for {what}" for status in statuses)
        if any(status >= 500 for status in statuses) or (200 in statuses and what in NEVER_TAKEN):
            self.app.wrong.append(f"{what}: {statuses} for {sent.written()[:600]!r}")
        self.app.wrong += [f"{what}: the answer tells the {name}" for name in self.app.search.names(answer)]
        return statuses[0] if statuses else 0


def test_twenty_thousand_altered_callbacks_leave_no_trace(site: Site) -> None:
    with site.rest() as rest:
        apps = {name: new_app(site, rest, kind.platform, f"app{n}") for n, (name, kind) in enumerate(KINDS.items())}
        strangers = {platform: new_app(site, rest, platform, f"other{platform}") for platform in ("feishu", "dingtalk")}
    attacks = [Attack(name, site.port, app, strangers[KINDS[name].platform]) for name, app in apps.items()]

    with ThreadPoolExecutor(len(attacks)) as pool:
        for done in [pool.submit(attack.run) for attack in attacks]:
            done.result()

    for name, app in apps.items():
        assert app.wrong == [], f"{name}: {len(app.wrong)} of them"
        refused = sum(count for outcome, count in app.outcomes.items() if outcome.startswith("4"))
        assert refused > MUTATIONS / 3, app.outcomes
        messages = app.authentic_ids if name.endswith("messages") else set()
        stored = stored_of(site, app)
        assert messages <= stored.keys() <= messages | app.residual_ids, name
        assert {stored[each] for each in messages} <= {"Hello", "Delete everything"}
    assert [stored_of(site, app) for app in strangers.values()] == [{}, {}]
    assert 'status="5' not in httpx.get(f"{site.url}/metrics", trust_env=False, timeout=30).text


def stored_of(site: Site, app: App) -> dict[str, str]:
    with psycopg.connect(site.env["DATABASE_URL"]) as connection:
        query = "SELECT external_id, text FROM bots_message WHERE role = 'user' AND app_id = %s"
        return dict(connection.execute(query, [app.own.app_id]).fetchall())
