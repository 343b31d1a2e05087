"""People, programs and platforms that use every planted secret, rightly and wrongly; what they are answered is kept."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import psycopg
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from integrations.dingtalk.crypto import EventKeys
from tests.bots.callbacks import dingtalk_message, feishu_event
from tests.canary.entering import SECRET_FIELDS, Operator
from tests.canary.signing_in import Json
from tests.integrations.dingtalk import fake_dingtalk
from tests.integrations.feishu import fake_feishu
from tests.servers.model_service import Script
from tests.servers.site import until


class Cast(Operator):
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
