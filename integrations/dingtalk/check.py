"""What DingTalk says about an app: its secret, the address list, its permissions. Nothing is sent or made.

The calls are about things that do not exist. DingTalk's gate looks at token, address, permission and quota before the
API looks for the thing, so any other refusal means that the call would pass. Sources: PROTOCOL.md, "Refusals", "Cards".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security.outbound import OutboundRefused
from integrations.checking import Finding
from integrations.dingtalk.client import DingTalkClient
from integrations.dingtalk.refusals import UNREACHABLE, Refused
from integrations.errors import PlatformError
from integrations.metering import QuotaMeter
from integrations.probing import PATIENCE_S, OwnTokens, hurried
from integrations.values import Credentials

CONSOLE: Final = "https://open-dev.dingtalk.com/"

# A pattern for DingTalk's whole code -> what to do.
_FIXES: Final[tuple[tuple[str, Any], ...]] = (
    (
        r"invalidClientIdOrSecret|40089",
        gettext_lazy("Copy Client ID and Client Secret again from Credentials (凭证与基础信息)."),
    ),
    (
        r"InvalidAuthentication|40001|40014|42001",
        gettext_lazy("See in DingTalk's console whether the app is enabled and published."),
    ),
    (
        r".*AccessTokenPermissionDenied|60011|88",
        gettext_lazy("Request it under Permissions (权限管理), then publish the app's version (版本管理与发布)."),
    ),
    (
        r".*IpNotInWhiteList|60020",
        gettext_lazy("Add this server's public address under Security Settings (安全设置), server egress IP."),
    ),
    (
        r"invalidParameter\.robotCode\..*",
        gettext_lazy("Publish the robot (机器人) of this app, and leave the robot code empty unless it has another."),
    ),
    (r".*ApiCountLimitForOrg|90020|90030", gettext_lazy("Raise the company's plan, or wait for the next month.")),
)


def prove_secret(credentials: Credentials, http: httpx.Client) -> None:
    """Get an access token of its own, in 15 s at most. Raises PlatformError."""
    with hurried(http) as client:
        DingTalkClient(credentials, client, OwnTokens()).sign_in()


def findings(credentials: Credentials, http: httpx.Client, meter: QuotaMeter) -> list[Finding]:
    """What the calls tell, in 15 s at most. Never raises for what DingTalk or the network does."""
    with hurried(http) as client:
        probe = _Probe(credentials, client, OwnTokens(), meter)
        probe.patience_s = PATIENCE_S
        return list(_checked(probe, has_cards=bool(credentials.card_template_id)))


class _Probe(DingTalkClient):
    """Calls about things that do not exist. They raise Refused and HeldBack."""

    @property
    def has_token(self) -> bool:
        return self._tokens.get(self._token_key) is not None

    def robot(self) -> None:
        app = self._credentials
        nothing = {"openConversationId": f"cid{uuid4().hex}", "processQueryKey": uuid4().hex, "maxResults": 1}
        body = {"robotCode": app.robot_code or app.app_id, **nothing}
        self.pace("query")
        self._call("POST", "/v1.0/robot/groupMessages/query", body, "use the robot", repeatable=True)

    def card_data(self) -> None:
        body = {"outTrackId": f"check-{uuid4().hex}", "cardData": {"cardParamMap": {}}}
        self.pace("instances")
        self._call("PUT", "/v1.0/card/instances", body, "make cards", repeatable=True)

    def card_text(self) -> None:
        state = {"key": "content", "content": "-", "isFull": True, "isFinalize": False, "isError": False}
        self.stream_card({"outTrackId": f"check-{uuid4().hex}", "guid": uuid4().hex, **state})


def _checked(probe: _Probe, *, has_cards: bool) -> Iterator[Finding]:
    problem = _problem(probe, probe.robot)
    if probe.has_token:
        yield Finding("ok", _("DingTalk accepts Client ID and Client Secret."))
    yield _of(problem) if problem else Finding("ok", _("The robot may send messages."))
    if has_cards and probe.has_token and not (problem and _says_all(problem)):
        yield from _cards(probe)


def _cards(probe: _Probe) -> Iterator[Finding]:
    calls = (probe.card_data, probe.card_text)
    problems = [_of(problem) for call in calls if (problem := _problem(probe, call))]
    yield from problems or [Finding("ok", _("The app may make cards and write on them."))]


def _problem(probe: _Probe, call: Callable[[], None]) -> PlatformError | None:
    """What stands against a call, beyond that its thing does not exist."""
    try:
        call()
    except PlatformError as problem:
        is_passed = isinstance(problem, Refused) and problem.permanent and not (problem.meaning or _fix(problem))
        return None if is_passed and probe.has_token else problem
    return None


def _says_all(problem: PlatformError) -> bool:
    """Whether every other call would end in the same way. A missing permission is that of one call."""
    return not isinstance(problem, Refused) or bool(problem.meaning)


def _of(problem: PlatformError) -> Finding:
    fix = _fix(problem)
    if isinstance(problem.__cause__, OutboundRefused):
        return Finding("failed", str(problem), str(problem.__cause__))
    if getattr(problem, "code", "") == UNREACHABLE:
        return Finding("failed", str(problem), _("Check this server's network, and the base URL of the credential."))
    if not fix and not problem.permanent:
        return Finding("warning", str(problem), _("Check again in a minute."))
    return Finding("failed", str(problem), fix, CONSOLE)


def _fix(problem: PlatformError) -> str:
    code = getattr(problem, "code", "")
    return next((str(text) for codes, text in _FIXES if re.fullmatch(codes, code)), "")
