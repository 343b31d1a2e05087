"""What an operator enters: models, apps, endpoints, robots, alert channels, API clients and people, also wrongly."""

from __future__ import annotations

import re
from typing import Any

from tests.canary.signing_in import Json, SignedIn, token_in
from tests.canary.site import letters, token
from tests.integrations.dingtalk import fake_dingtalk
from tests.integrations.feishu import fake_feishu

SECRET_FIELDS = ("app_secret", "verification_token", "encrypt_key")


class Operator(SignedIn):
    apps: dict[str, Json]
    endpoints: dict[str, Json]
    key: str

    def set_up(self) -> None:
        self._models()
        self._apps()
        self._endpoints()
        self._robots()
        self._channels()
        self._clients()
        self._people()

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
        self.endpoints = {}
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
