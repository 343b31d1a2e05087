"""What Feishu says about an app: its secret, its bot, its scopes. Three reading calls; nothing is sent or made.

Sources: 获取机器人信息 (bot/v3/info) and 查询租户授权状态 (application/v6/scopes), which need no scope; PROTOCOL.md,
"Error codes". The webhook address and the events are not readable without a further scope: the last event tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security.outbound import OutboundRefused
from integrations.base import Credentials
from integrations.checking import Finding, Level
from integrations.errors import PlatformError
from integrations.feishu.client import FeishuClient
from integrations.feishu.refusals import FeishuError
from integrations.metering import QuotaMeter
from integrations.probing import PATIENCE_S, OwnTokens, hurried
from integrations.traffic import HeldBack

CONSOLES: Final = ("https://open.feishu.cn", "https://open.larksuite.com")
ENABLED: Final = 2  # activate_status
GRANTED: Final = 1  # grant_status
LONGEST_NAME: Final = 60
NO_BOT: Final = (11205, 230006)
_PUBLISH = gettext_lazy(
    "Under Version Management & Release (版本管理与发布) make a version and publish it; an admin of the company may "
    "have to approve it."
)


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
    99991672: (
        gettext_lazy("Add the scope under Permissions & Scopes (权限管理), then publish a version."),
        "auth",
    ),
    **dict.fromkeys((99991673, 212100), (_PUBLISH, "version")),
}


def findings(credentials: Credentials, http: httpx.Client, meter: QuotaMeter) -> list[Finding]:
    """What the calls tell, in 15 s at most. Never raises for what Feishu or the network does."""
    with hurried(http) as client:
        probe = _Probe(credentials, client, OwnTokens(), meter)
        probe.patience_s = PATIENCE_S
        return list(_Check(credentials, probe).run())


class _Probe(FeishuClient):
    """Two calls that only a check makes. They raise FeishuError and HeldBack."""

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


class _Check:
    def __init__(self, credentials: Credentials, probe: _Probe) -> None:
        self._credentials, self._probe = credentials, probe

    def run(self) -> Iterator[Finding]:
        try:
            yield from self._of_bot(self._probe.bot())
        except PlatformError as problem:
            yield self._of_problem(problem)
            if not (isinstance(problem, FeishuError) and problem.code in NO_BOT):
                return  # the next call would end in the same way
        try:
            yield from self._of_scopes(self._probe.scopes())
        except PlatformError as problem:
            yield self._of_problem(problem)

    def _of_bot(self, bot: dict[str, Any]) -> Iterator[Finding]:
        yield Finding("ok", _("Feishu accepts App ID and App Secret."))
        name, status = str(bot.get("app_name") or "")[:LONGEST_NAME], bot.get("activate_status")
        if status == ENABLED:
            yield Finding("ok", _("The bot is enabled. Its name in Feishu: %(name)s") % {"name": name})
        else:
            what = _("The bot is not enabled in this company (activate_status %(status)s).") % {
                "status": str(status)[:9]
            }
            yield Finding("failed", what, str(_PUBLISH), self._page("version"))

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
            return Finding(needs[0].level, what, str(_PUBLISH), self._page("version"))
        page = f"auth?q={','.join(names)}&op_from=openapi&token_type=tenant"
        return Finding(needs[0].level, what, str(_FIXES[99991672][0]), self._page(page))

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
