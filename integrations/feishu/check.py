"""What Feishu says about an app: its secret, its bot, its scopes, its console. Four reading calls; nothing is changed.

Sources: 获取机器人信息 (bot/v3/info) and 查询租户授权状态 (application/v6/scopes), which need no scope; 获取应用信息
(application/v6/applications/me), which needs one: without it the last event has to tell. PROTOCOL.md, "Error codes".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

import httpx
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security.outbound import OutboundRefused
from integrations.checking import Finding, Level, WayIn
from integrations.errors import PlatformError
from integrations.feishu import console
from integrations.feishu.client import FeishuClient
from integrations.feishu.console import PUBLISH
from integrations.feishu.fields import Json, object_of
from integrations.feishu.refusals import FeishuError
from integrations.metering import QuotaMeter
from integrations.probing import PATIENCE_S, OwnTokens, hurried
from integrations.traffic import HeldBack
from integrations.values import Credentials

CONSOLES: Final = ("https://open.feishu.cn", "https://open.larksuite.com")
ENABLED: Final = 2  # activate_status
GRANTED: Final = 1  # grant_status
LONGEST_NAME: Final = 60
NO_BOT: Final = (11205, 230006)
NO_SCOPE: Final = 99991672
SELF_SCOPES: Final = ("application:application:self_manage", "admin:app.info:readonly")


@dataclass(frozen=True, slots=True)
class Need:
    """Something the bot does, and the scopes of which one allows it; the first is the one to ask for."""

    level: Level
    scopes: tuple[str, ...]


NEEDS: Final = (
    Need("failed", ("im:message.p2p_msg:readonly", "im:message.p2p_msg")),
    Need("failed", ("im:message.group_at_msg:readonly", "im:message.group_at_msg", "im:message.group_msg")),
    Need("failed", ("im:message:send_as_bot", "im:message")),
    Need("warning", ("im:message:readonly", "im:message")),
    Need("warning", ("cardkit:card:write",)),
    Need("warning", ("im:message.reactions:write_only", "im:message")),
)

# Feishu's code -> what to do, and the page of the app's console.
_FIXES: Final[dict[int, tuple[Any, str]]] = {
    **dict.fromkeys(
        (10003, 10014, 10015),
        (
            gettext_lazy("Copy App ID and App Secret again from Credentials & Basic Info (凭证与基础信息)."),
            "baseinfo",
        ),
    ),
    **dict.fromkeys(
        NO_BOT,
        (
            gettext_lazy("Under Add Features (添加应用能力) add the Bot (机器人), then publish a version."),
            "bot",
        ),
    ),
    99991401: (
        gettext_lazy("Add this server's public address to the IP allow list under Security Settings (安全设置)."),
        "safe",
    ),
    99991403: (gettext_lazy("Raise the company's plan, or wait for the next month."), ""),
    NO_SCOPE: (
        gettext_lazy("Add the scope under Permissions & Scopes (权限管理), then publish a version."),
        "auth",
    ),
    **dict.fromkeys((99991673, 212100), (PUBLISH, "version")),
}


def prove_secret(credentials: Credentials, http: httpx.Client) -> None:
    """Get an access token of its own, in 15 s at most. Raises PlatformError."""
    with hurried(http) as client:
        FeishuClient(credentials, client, OwnTokens()).sign_in()


def findings(credentials: Credentials, http: httpx.Client, meter: QuotaMeter, way_in: WayIn) -> list[Finding]:
    """What the calls tell, in 15 s at most. Never raises for what Feishu or the network does."""
    with hurried(http) as client:
        probe = _Probe(credentials, client, OwnTokens(), meter)
        probe.patience_s = PATIENCE_S
        return list(_Check(credentials, probe, way_in).run())


class _Probe(FeishuClient):
    """The calls that only a check makes. They raise FeishuError and HeldBack."""

    def bot(self) -> dict[str, Any]:
        self.pace("bot info")
        bot = self._call("bot info", "GET", "/bot/v3/info").get("bot")
        return bot if isinstance(bot, dict) else {}

    def scopes(self) -> dict[str, bool]:
        """The scopes that the app asks for, and whether each is granted."""
        self.pace("scopes")
        data = self._call("scopes", "GET", "/application/v6/scopes").get("data")
        listed = data.get("scopes") if isinstance(data, dict) else None
        rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
        asked = [row for row in rows if row.get("scope_type") != "user"]  # those act for a person
        return {str(row.get("scope_name")): row.get("grant_status") == GRANTED for row in asked}

    def app(self) -> Json:
        """The app as the console has it."""
        return object_of(self._read("app", "/application/v6/applications/me?lang=zh_cn").get("app"))


class _Check:
    def __init__(self, credentials: Credentials, probe: _Probe, way_in: WayIn) -> None:
        self._credentials, self._probe, self._way_in = credentials, probe, way_in

    def run(self) -> Iterator[Finding]:
        try:
            yield from self._of_bot(self._probe.bot())
        except PlatformError as problem:
            yield self._of_problem(problem)
            if not (isinstance(problem, FeishuError) and problem.code in NO_BOT):
                return  # the next call would end in the same way
        try:
            yield from self._of_scopes(self._probe.scopes())
        except PlatformError as problem:  # which scopes there are is not known then: the bot may well work
            yield replace(self._of_problem(problem), level="warning")
        yield from self._of_console()

    def _of_console(self) -> Iterator[Finding]:
        """A Feishu that does not know this call is not worth a finding."""
        try:
            for found in console.findings(self._probe.app(), self._way_in):
                yield found.at(self._page(found.page))
        except HeldBack as problem:
            yield self._of_problem(problem)
        except FeishuError as problem:
            if problem.code == NO_SCOPE:
                yield self._blind()

    def _blind(self) -> Finding:
        what = _("Whether address, events and version in Feishu's console are right cannot be told from here.")
        fix = _("To have them checked as well, add the scope %(scope)s and publish a version.")
        page = f"auth?q={SELF_SCOPES[0]}&op_from=openapi&token_type=tenant"
        return Finding("warning", what, fix % {"scope": SELF_SCOPES[0]}, self._page(page))

    def _of_bot(self, bot: dict[str, Any]) -> Iterator[Finding]:
        yield Finding("ok", _("Feishu accepts App ID and App Secret."))
        name, status = str(bot.get("app_name") or "")[:LONGEST_NAME], bot.get("activate_status")
        if status == ENABLED:
            yield Finding("ok", _("The bot is enabled. Its name in Feishu: %(name)s") % {"name": name})
        else:
            what = _("The bot is not enabled in this company (activate_status %(status)s).") % {
                "status": str(status)[:9]
            }
            yield Finding("failed", what, str(PUBLISH), self._page("version"))

    def _of_scopes(self, asked: dict[str, bool]) -> Iterator[Finding]:
        lacking = [need for need in NEEDS if not any(asked.get(scope) for scope in need.scopes)]
        for level in ("failed", "warning"):
            if needs := [need for need in lacking if need.level == level]:
                yield self._lacking(needs, asked)
        if not lacking:
            yield Finding("ok", _("All scopes that the bot needs are granted."))

    def _lacking(self, needs: list[Need], asked: dict[str, bool]) -> Finding:
        """Scopes that were asked for wait for a published version; the others must be added first."""
        names = [next((scope for scope in need.scopes if scope in asked), need.scopes[0]) for need in needs]
        what = _("Scopes are missing: %(scopes)s.") % {"scopes": ", ".join(names)}
        if needs[0].level == "warning":
            what = _("Scopes are missing, without which the bot does less: %(scopes)s.") % {"scopes": ", ".join(names)}
        if all(name in asked for name in names):
            return Finding(needs[0].level, what, str(PUBLISH), self._page("version"))
        page = f"auth?q={','.join(names)}&op_from=openapi&token_type=tenant"
        return Finding(needs[0].level, what, str(_FIXES[NO_SCOPE][0]), self._page(page))

    def _of_problem(self, problem: PlatformError) -> Finding:
        if isinstance(problem, HeldBack):
            return Finding("warning", str(problem), _("Check again in a minute."))
        if isinstance(problem.__cause__, OutboundRefused):
            return Finding("failed", str(problem), str(problem.__cause__))
        code = getattr(problem, "code", 0)
        if code in _FIXES or problem.permanent:
            fix, page = _FIXES.get(code, ("", ""))
            return Finding("failed", str(problem), str(fix), self._page(page))
        if code:
            return Finding("warning", str(problem), _("Check again in a minute."))
        return Finding("failed", str(problem), _("Check this server's network, and the base URL of the credential."))

    def _page(self, name: str) -> str:
        """A page of the app in Feishu's console, where we know the console."""
        app = self._credentials
        return f"{app.api_url}/app/{quote(app.app_id, safe='')}/{name}" if name and app.api_url in CONSOLES else ""
