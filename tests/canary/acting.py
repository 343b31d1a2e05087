"""People, programs and platforms that use every planted secret, rightly and wrongly; what they are answered is kept."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from clawdbot_site.security import totp
from integrations.dingtalk.crypto import EventKeys
from tests.bots.callbacks import dingtalk_message, feishu_event
from tests.canary.sinks import Sinks
from tests.canary.site import CanarySite, Neighbours, Plants, letters, token
from tests.integrations.dingtalk import fake_dingtalk
from tests.integrations.feishu import fake_feishu
from tests.servers.model_service import Script
from tests.servers.site import until

ADMIN = "admin"
SECRET_FIELDS = ("app_secret", "verification_token", "encrypt_key")
Json = dict[str, Any]


class Caller:
    """HTTP to the site. Every answer goes to the sinks, headers too; ``shows`` names what it is there to show.

    The control word is the id of every request: logs, answers and the audit log name it.
    """

    def __init__(self, site: CanarySite, sinks: Sinks, sink: str, control: str, authorization: str = "") -> None:
        headers = {"X-Request-Id": control, **({"Authorization": authorization} if authorization else {})}
        self._http = httpx.Client(base_url=site.url, headers=headers, trust_env=False, timeout=120)
        self._sinks, self._sink = sinks, sink
        self.cookies = self._http.cookies

    def __call__(
        self, method: str, path: str, *, shows: Iterable[str] = (), sink: str = "", **sent: Any
    ) -> httpx.Response:
        answer = self._http.request(method, path, **sent)
        heads = "".join(f"{name}: {value}\n" for name, value in answer.headers.items() if name != "set-cookie")
        self._sinks.add(sink or self._sink, heads.encode() + answer.content, shows)
        return answer

    def close(self) -> None:
        self._http.close()


class Cast:
    def __init__(self, site: CanarySite, near: Neighbours, plants: Plants, sinks: Sinks, control: str) -> None:
        self.site, self.near, self.plants, self.sinks, self.control = site, near, plants, sinks, control
        self.anybody = Caller(site, sinks, "answers to anybody", control)
        self.page = Caller(site, sinks, "admin pages", control)
        self.endpoints: dict[str, Json] = {}
        self.rest_sign_in()

    def close(self) -> None:
        for caller in (self.anybody, self.page, self.rest):
            caller.close()

    # -- signing in --

    def rest_sign_in(self) -> None:
        """Leaves ``self.rest`` with an access token. Wrong passwords and tokens are tried, and a used refresh token."""
        plants, where = self.plants, "/api/v1/auth/token/"
        given = {"username": ADMIN, "password": plants["password of the admin"]}
        typed = plants.new("mistyped password")
        self.anybody("POST", where, json={"username": ADMIN, "password": typed})
        self.anybody("POST", where, json={"username": typed, "password": typed})
        self.anybody("POST", where, content=b'{"username": "admin", "password": "' + typed.encode())
        names = ("signature of an access token", "refresh token")
        made = self.anybody("POST", where, json=given, shows=names).json()
        access = made["access"]
        plants.seen(names[0], access.rpartition(".")[2])
        plants.seen(names[1], made["refresh"])
        newer = self.anybody(
            "POST",
            f"{where}refresh/",
            json={"refresh": made["refresh"]},
            shows=["second refresh token", "signature of a second access token"],
        ).json()
        plants.seen("second refresh token", newer["refresh"])
        plants.seen("signature of a second access token", newer["access"].rpartition(".")[2])
        self.anybody("POST", f"{where}refresh/", json={"refresh": made["refresh"]})  # twice: the family ends
        self.anybody("POST", f"{where}revoke/", json={"refresh": newer["refresh"]})
        self.rest = Caller(self.site, self.sinks, "REST answers", self.control, f"Bearer {access}")
        for wrong in (f"{access}x", access[:-30], f"x{access}"):
            self.anybody("GET", "/api/v1/bots/", headers={"Authorization": f"Bearer {wrong}"})
        self.anybody("GET", f"/api/v1/bots/?access_token={access}")
        self.anybody("GET", f"/api/v1/{access}/")
        self.access = access

    def page_sign_in(self) -> None:
        login = self.page("GET", "/admin/login/")
        wrong = {"username": ADMIN, "password": self.plants["mistyped password"]}
        self.page("POST", "/admin/login/", data={**wrong, **token_in(login.text)})
        right = {"username": ADMIN, "password": self.plants["password of the admin"], "next": "/admin/"}
        answer = self.page("POST", "/admin/login/", data={**right, **token_in(login.text)})
        assert answer.status_code == 302, answer.text
        self.plants.seen("session cookie", self.page.cookies["sessionid"])

    def fill(self, path: str, **fields: Any) -> httpx.Response:
        """Open a form of the admin and send it."""
        form = token_in(self.page("GET", path).text)
        return self.page("POST", path, data={**form, **fields})

    # -- what an operator enters --

    def set_up(self) -> None:
        self._models()
        self._apps()
        self._endpoints()
        self._robots()
        self._channels()
        self._clients()
        self._people()

    def create(self, path: str, *, shows: Iterable[str] = (), **body: Any) -> Json:
        answer = self.rest("POST", f"/api/v1/{path}/", json=body, shows=shows)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def _models(self) -> None:
        keys = [self.plants.new(f"API key {number} of a model") for number in range(2)]
        refused = self.plants.new("API key that the service refuses")
        self.near.model.further_keys.update(keys)
        place = {"engine": "openai", "base_url": self.near.model.base_url, "model": "m"}
        made = self.create("models", name=self.control, api_key=keys[0], **place)
        self.create("model-keys", model=self.control, key=keys[1], name="second")
        broken = self.create("models", name=f"{self.control}-broken", api_key=refused, **place)
        for row in (made, broken):
            self.rest("POST", f"/api/v1/models/{row['id']}/check/")
        common = {"ai_notice": "", "reply_mode": "text"}
        self.create("bots", slug=self.control, name=self.control, model=self.control, **common)
        self.create("bots", slug=f"{self.control}-broken", name="broken", model=f"{self.control}-broken", **common)

    def _apps(self) -> None:
        feishu, dingtalk = self.near.feishu, self.near.dingtalk
        events = {"verification_token": letters(32), "encrypt_key": letters(43)}
        self.apps = {
            "Feishu": self._app("Feishu", "feishu", feishu.app_id, app_secret=feishu.app_secret),
            "DingTalk": self._app("DingTalk", "dingtalk", dingtalk.app_id, events, app_secret=dingtalk.app_secret),
            "a refused app": self._app("a refused app", "feishu", "cli_refused"),
        }
        self._new_secrets("Feishu")
        for row in self.apps.values():
            self.rest("POST", f"/api/v1/credentials/{row['id']}/check/")
        wrong = {"name": "x", "platform": "dingtalk", "app_id": "x", "app_secret": token()}
        secret = self.plants.new("secret of a refused form")
        self.rest("POST", "/api/v1/credentials/", json={**wrong, "verification_token": f"-{secret}"})
        self.rest("POST", "/api/v1/credentials/", json={**wrong, "encrypt_key": [secret]})

    def _app(self, whose: str, platform: str, app_id: str, makes: Any = None, **held: str) -> Json:
        makes = makes or {}
        given = {
            field: held.get(field) or self.plants.new(f"{field} of {whose}", makes.get(field, token))
            for field in SECRET_FIELDS
        }
        row = self.create("credentials", name=f"{self.control} {whose}", platform=platform, app_id=app_id, **given)
        return {**row, **given}

    def _new_secrets(self, whose: str) -> None:
        """The platform refuses them, and quotes what it was given."""
        given = {field: self.plants.new(f"new {field} of {whose}") for field in SECRET_FIELDS}
        said = {"code": 10014, "msg": f"app secret {given['app_secret']} invalid"}
        self.near.feishu.trouble(fake_feishu.TOKEN, fake_feishu.Answer(400, said))
        self.rest("POST", f"/api/v1/credentials/{self.apps[whose]['id']}/new-secret/", json=given)

    def _endpoints(self) -> None:
        """Ten, of which three are live."""
        for number in range(10):
            whose, slug = list(self.apps)[number % 3], self.control if number % 3 < 2 else f"{self.control}-broken"
            body = {"bot": slug, "credential": self.apps[whose]["id"], "mode": "webhook", "is_enabled": number < 3}
            name = f"key {number} of an endpoint"
            answer = self.rest("POST", "/api/v1/endpoints/", json=body, sink="an endpoint's own resource", shows=[name])
            assert answer.status_code == 201, answer.text
            row = answer.json()
            self.plants.seen(name, row["key"])
            self.endpoints[name] = row

    def _robots(self) -> None:
        near, plants = self.near, self.plants
        (token_there, secret), *_ = near.dingtalk.robots.items()
        hook = plants.new("address of Feishu's group robot")
        rows = [
            ("dingtalk", f"{near.dingtalk.oapi_url}/robot/send?access_token={token_there}", secret),
            ("feishu", f"{near.feishu.url}/open-apis/bot/v2/hook/{hook}", plants.new("secret of Feishu's group robot")),
        ]
        robots = [
            self.create(
                "group-robots",
                name=f"{self.control} {platform}",
                platform=platform,
                webhook_url=url,
                signing_secret=signs,
            )
            for platform, url, signs in rows
        ]
        near.feishu.trouble("POST */hook/*", fake_feishu.Answer(500, f"no robot at /open-apis/bot/v2/hook/{hook}"), 3)
        near.dingtalk.fail(fake_dingtalk.ROBOT, (200, {"errcode": 310000, "errmsg": f"token {token_there} {secret}"}))
        for row in robots * 2:
            self.rest("POST", f"/api/v1/group-robots/{row['id']}/push/", json={"text": self.control})
        self.rest(
            "POST",
            "/api/v1/group-robots/",
            json={"name": "x", "platform": "feishu", "webhook_url": f"https://elsewhere.example/{hook}"},
        )

    def _channels(self) -> None:
        plants, alerts = self.plants, self.near.alerts
        address = f"{alerts.url}/{plants.new('path of an alert webhook')}?key={plants.new('key of an alert webhook')}"
        secret = f"whsec_{plants.new('secret of an alert webhook', lambda: letters(40)())}"
        common = {"least_severity": "warning", "interval_s": "60", "remind_after_h": "0", "is_enabled": "on"}
        where = "/admin/monitoring/alertchannel/"
        for kind, more in (("webhook", {"url": address, "secret": secret}), ("email", {"emails": "ops@example.com"})):
            made = self.fill(f"{where}add/", name=f"{self.control} {kind}", kind=kind, **common, **more)
            assert made.status_code == 302, made.text
        alerts.says = [(500, f"cannot take {address} {secret}"), (200, "{}")]
        for pk in re.findall(rf"{where}([0-9a-f-]{{36}})/change/", self.page("GET", where).text) * 2:
            self.page("POST", f"{where}{pk}/test/", data=token_in(self.page("GET", f"{where}{pk}/change/").text))
        self.fill(f"{where}add/", name="wrong", kind="webhook", url="ftp://alerts.example/", secret=secret, **common)

    def _clients(self) -> None:
        """One key that works, and one that is revoked. Only the part behind the dot is secret."""
        keys = []
        for number, scopes in enumerate((["bots:read", "chat", "messages:read"], ["bots:read"])):
            name = f"API key {number}"
            made = self.create("api-clients", name=f"{self.control} {number}", scopes=scopes, shows=[name])
            self.plants.seen(name, made["key"].partition(".")[2])
            keys.append(made["key"])
            if number:
                self.rest("DELETE", f"/api/v1/api-clients/{made['id']}/")
        self.key = keys[0]
        for one in keys:
            self.anybody("GET", "/api/v1/bots/", headers={"Authorization": f"Api-Key {one}"})
            self.anybody("GET", "/api/v1/bots/", headers={"Authorization": f"Api-Key {one}x"})
            self.anybody("POST", "/api/v1/auth/token/", json={"api_key": f"{one}y"})
            self.anybody("GET", f"/api/v1/bots/?api_key={one}", headers={"Authorization": f"Api-Key {one}"})
            self.anybody("GET", "/v1/models", headers={"Authorization": f"Bearer {one}z"})
        ask = {"model": f"bot:{self.control}", "messages": [{"role": "user", "content": "Hello"}]}
        self.anybody("POST", "/v1/chat/completions", json=ask, headers={"Authorization": f"Bearer {keys[0]}"})

    def _people(self) -> None:
        password = self.plants.new("password of a person")
        fields = {"username": f"{self.control}-person", "usable_password": "true"}
        self.fill("/admin/security/user/add/", **fields, password1=password, password2="another")
        made = self.fill("/admin/security/user/add/", **fields, password1=password, password2=password)
        assert made.status_code == 302, made.text
        self.anybody(
            "POST", "/api/v1/auth/token/", json={"username": fields["username"], "password": password}, shows=[]
        )

    # -- what platforms and people send --

    def talk(self) -> None:
        self._callbacks()
        self._events()
        self._hooks()
        self._socket()
        self._failures()

    def _callbacks(self) -> None:
        for number, (name, row) in enumerate(self.endpoints.items()):
            app = list(self.apps.values())[number % 3]
            kind, path = app["platform"], f"/webhooks/{app['platform']}/{row['key']}/"
            body, headers = self._message(app, f"{self.control} om {number}")
            headers |= {"Content-Type": "application/json"}
            self.anybody("POST", path, content=body, headers=headers)
            wrong = {**headers, "X-Lark-Signature": "0" * 64, "sign": "wrong"}
            self.anybody("POST", path, content=body, headers=wrong)
            self.anybody("POST", path, content=b"{", headers=headers)
            self.anybody("POST", path, content=body, headers={**headers, "Content-Type": "text/plain"})
            self.anybody("POST", f"{path}?key={row['key']}&sign={app['app_secret']}", content=b"x" * (1 << 20) + body)
            self.anybody("GET", path)
            self.anybody("GET", f"/webhooks/{row['key']}/")
            self.anybody(
                "POST", f"/webhooks/{'feishu' if kind == 'dingtalk' else 'dingtalk'}/{row['key']}", content=body
            )
            self.anybody("GET", f"/api/v1/{row['key']}/{name}")
            # Sent to the sign-in, with where it wanted to go: its own words.
            self.anybody("GET", f"/admin/bots/endpoint/{row['key']}/change/", shows=[name])
        for kind in ("feishu", "dingtalk", "unknown"):
            self.anybody("POST", f"/webhooks/{kind}/{self.plants.new(f'mistyped key of {kind}')}/", content=b"{}")

    def _message(self, app: Json, text: str) -> tuple[bytes, dict[str, str]]:
        credential = SimpleNamespace(**{name: app[name] for name in ("app_id", *SECRET_FIELDS)})
        endpoint = SimpleNamespace(credential=credential)
        message_id = re.sub(r"\W", "_", text)
        if app["platform"] == "feishu":
            return feishu_event(endpoint, text, message_id=message_id)
        secret = self.plants["session address of DingTalk"]
        session = {
            "sessionWebhook": f"{self.near.dingtalk.oapi_url}/robot/sendBySession?session={secret}",
            "sessionWebhookExpiredTime": int(time.time() * 1000) + 3_600_000,
            "senderStaffId": "staff0001",
            "msgId": message_id,
        }
        return dingtalk_message(endpoint, text, **session)

    def _events(self) -> None:
        """DingTalk's over HTTP: sealed by the token and the AES key of its event settings."""
        app, row = self.apps["DingTalk"], self.endpoints["key 1 of an endpoint"]
        keys = EventKeys(app["verification_token"], app["encrypt_key"], (app["app_id"],))
        for event in ({"EventType": "check_url"}, {"EventType": "chat_disband", "OpenConversationId": "cid1"}):
            sealed = keys.seal(json.dumps(event).encode(), str(int(time.time() * 1000)))
            signed = {"signature": sealed["msg_signature"], "timestamp": sealed["timeStamp"], "nonce": sealed["nonce"]}
            path, body = f"/webhooks/dingtalk/{row['key']}/", {"encrypt": sealed["encrypt"]}
            self.anybody("POST", path, params=signed, json=body)
            self.anybody("POST", path, params={**signed, "signature": app["verification_token"]}, json=body)

    def _hooks(self) -> None:
        for row in list(self.endpoints.values())[:4]:
            path = f"/api/v1/hooks/{row['key']}/"
            self.anybody("POST", path, json={"question": f"{self.control} by a hook"})
            self.anybody("POST", path, json={"text": "Hello", "chat_id": "oc_1", "unknown": row["key"]})
            signed = {"webhook-id": "1", "webhook-timestamp": str(int(time.time())), "webhook-signature": row["key"]}
            self.anybody("POST", path, json={"question": "Hello"}, headers=signed)
            self.anybody("GET", path)
        self.anybody("POST", f"/api/v1/hooks/{self.plants.new('mistyped key of a hook')}/", json={"question": "x"})

    def _socket(self) -> None:
        for given in (self.access, f"{self.access}x"):
            with connect(
                f"{self.site.url.replace('http', 'ws')}/ws/chat/{self.control}/?token={given}", proxy=None
            ) as line:
                line.send(json.dumps({"type": "auth", "token": given}))
                heard: list[str] = []
                try:
                    heard.append(str(line.recv(10)))
                    line.send(json.dumps({"type": "message", "id": "1", "text": self.control}))
                    while '"done"' not in heard[-1] and '"error"' not in heard[-1]:
                        heard.append(str(line.recv(20)))
                except ConnectionClosed:
                    heard.append("closed")
                self.sinks.add("frames of WebSockets", "\n".join(heard))

    def _failures(self) -> None:
        """Whoever fails quotes what it was given."""
        plants, near = self.plants, self.near
        said = json.dumps(
            {"error": {"message": f"key {plants['API key 0 of a model']} {plants['API key 1 of a model']}"}}
        )
        session = plants["session address of DingTalk"]
        for status in (500, 400, 429, 302):
            near.model.script(
                Script(status=status, body=said, headers={"Location": f"http://127.0.0.1:9/{said[:80]}"}), Script()
            )
            self.rest("POST", f"/api/v1/bots/{self.control}/messages/", json={"text": f"Fail by {status}"})
        self.rest("POST", f"/api/v1/bots/{self.control}-broken/messages/", json={"text": "Hello"})
        near.model.script(Script())
        refusals = [(500, f"session {session} is broken"), (200, {"errcode": 300001, "errmsg": f"session {session}"})]
        near.dingtalk.fail(fake_dingtalk.SESSION, *refusals)
        for number in range(2):
            body, headers = self._message(self.apps["DingTalk"], f"{self.control} fails {number}")
            self._post_to(1, body, headers)
        answers = [
            fake_feishu.Answer(500, f"Bearer t-{plants['access token from Feishu']} is not known"),
            fake_feishu.Answer(400, {"code": 99991663, "msg": f"token t-{plants['access token from Feishu']}"}),
        ]
        for number, answer in enumerate(answers):
            near.feishu.trouble(fake_feishu.SEND, answer)
            body, headers = self._message(self.apps["Feishu"], f"{self.control} fails there {number}")
            self._post_to(0, body, headers)

    def _post_to(self, number: int, body: bytes, headers: dict[str, str]) -> None:
        row = self.endpoints[f"key {number} of an endpoint"]
        path = f"/webhooks/{'feishu' if number == 0 else 'dingtalk'}/{row['key']}/"
        answer = self.anybody("POST", path, content=body, headers={**headers, "Content-Type": "application/json"})
        assert answer.status_code == 200, answer.text

    def wait_for_answers(self) -> None:
        """Until nobody works on anything any more."""
        until(lambda: not self._unanswered(), "some are never answered", 180)

    def _unanswered(self) -> int:
        query = "SELECT count(*) FROM bots_message WHERE role = 'user' AND status IN ('received', 'answering')"
        with psycopg.connect(self.site.env["DATABASE_URL"]) as connection:
            found = connection.execute(query).fetchone()
        return int(found[0]) if found else 0

    # -- the second factor, last: it ends other sign-ins --

    def second_factor(self) -> None:
        name, where = "secret of an authenticator app", "/admin/second-factor/set-up/"
        self.fill("/admin/prove-again/", password=self.plants["password of the admin"])
        page = self.page("GET", where, shows=[name])
        found = re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", page.text)
        assert found, page.text
        secret = self.plants.seen(name, found[0].replace(" ", ""))
        form = token_in(page.text)
        self.page("POST", where, data={**form, "code": "000000"}, shows=[name])
        names = ["used recovery code", "recovery code"]
        shown = self.page("POST", where, data={**form, "code": code(secret)}, shows=names)
        for each, digits in zip(names, re.findall(r"\d{4} \d{4} \d{4}", shown.text), strict=False):
            self.plants.seen(each, digits.replace(" ", ""))
        given = {"username": ADMIN, "password": self.plants["password of the admin"]}
        for otp in ("", secret, self.plants[names[0]], self.plants[names[0]]):  # the second time is once too often
            self.anybody("POST", "/api/v1/auth/token/", json={**given, "otp": otp})
        self.page("GET", "/admin/my-sign-in/")


def token_in(page: str) -> dict[str, str]:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page[:2000]
    return {"csrfmiddlewaretoken": found[1]}


def code(secret: str) -> str:
    return totp.code_of(secret, totp.step_at(time.time()))
