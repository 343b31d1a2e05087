"""Signing in to a site by REST and by pages, rightly and wrongly; every answer goes to the sinks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

import httpx

from clawdbot_site.security import totp
from tests.canary.sinks import Sinks
from tests.canary.site import CanarySite, Neighbours, Plants

ADMIN = "admin"
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


class SignedIn:
    """The admin of a site, who has proved to be it in every way that there is."""

    def __init__(self, site: CanarySite, near: Neighbours, plants: Plants, sinks: Sinks, control: str) -> None:
        self.site, self.near, self.plants, self.sinks, self.control = site, near, plants, sinks, control
        self.anybody = Caller(site, sinks, "answers to anybody", control)
        self.page = Caller(site, sinks, "admin pages", control)
        self.rest_sign_in()

    def close(self) -> None:
        for caller in (self.anybody, self.page, self.rest):
            caller.close()

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

    def create(self, path: str, *, shows: Iterable[str] = (), **body: Any) -> Json:
        answer = self.rest("POST", f"/api/v1/{path}/", json=body, shows=shows)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def second_factor(self) -> None:
        """The last thing to do: it ends other sign-ins."""
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
