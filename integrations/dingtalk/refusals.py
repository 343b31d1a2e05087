"""What DingTalk's refusals mean: its codes, whether trying again helps, and words for an admin. Pure.

Source: PROTOCOL.md, "Refusals".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from integrations.errors import PlatformError

TOKEN_CODES = frozenset({"InvalidAuthentication", "40001", "40014", "42001"})
GATEWAY_TIMEOUT = "15"  # the old host's 504
UNREACHABLE = "unreachable"
NO_SUCH_CARD = "param.stream.outTrackId"
BLOCKED_ADDRESS_S = 300.0

# What a refusal says about other calls: nothing; the app does not work; too many calls of the app, in the chat, or
# from this address; nothing is left of the month's quota.
Meaning = Literal["", "app", "rate", "chat rate", "address", "quota"]


class Refused(PlatformError):
    """Nothing became visible: DingTalk said no, or was not reached at all. ``code`` is DingTalk's own word."""

    def __init__(
        self,
        message: str,
        code: str,
        *,
        permanent: bool = False,
        retry_after_s: float | None = None,
        meaning: Meaning = "",
    ) -> None:
        super().__init__(message, permanent=permanent, retry_after_s=retry_after_s)
        self.code, self.meaning = code, meaning


@dataclass(frozen=True, slots=True)
class Rule:
    """Codes (a pattern for the whole code) with one meaning; ``{detail}`` is what the answer adds to it."""

    codes: str
    permanent: bool
    advice: str
    meaning: Meaning = ""


RULES = (
    Rule(r"InvalidAuthentication|40001|40014|42001", False, "it does not accept a fresh access token", "app"),
    Rule(
        r"invalidClientIdOrSecret|40089", True, "app_id or app_secret is wrong; copy both again from the console", "app"
    ),
    Rule(
        r".*AccessTokenPermissionDenied|60011|88",
        True,
        "the app lacks a permission{detail}; grant it in the developer console and publish the app",
    ),
    Rule(
        r".*IpNotInWhiteList|60020",
        True,
        "this server's address{detail} is not on the app's list; add it under security settings",
        "app",
    ),
    Rule(r".*Qp[sm]Limit.*|90002|90018|90019", False, "too many calls at once; it is tried again", "rate"),
    Rule(
        r"410100|130101|send\.too\.fast|send\.byToken\.tooFast|too\.many\..*",
        False,
        "too many calls at once; it is tried again",
        "chat rate",
    ),
    Rule(
        r".*ApiCountLimitForOrg|90020|90030",
        True,
        "the company's monthly quota of calls is used up; raise the plan in DingTalk's admin console, or wait for the"
        " next month",
        "quota",
    ),
    Rule(r"300001|session\.(expired|notExisted)", True, "the chat's reply address is no longer valid"),
    Rule(r"460101|101002|invalidParameter\.msgParam\.tooLong|param\.stream\.content", True, "the text is too long"),
    Rule(r"43010[1-4]|contain\..*|param\.contentUnsafe", True, "its content filter objects to the text"),
    Rule(
        r"invalid\.openConversationId|group\.disbanded|bot\.stopped|resource\.not\.found|robot\.oto\.notExist"
        r"|chatbotId\.notAllow\.sendOTO|staffId\.notExisted",
        True,
        "the chat or person is gone, or the robot is not in the chat",
    ),
    Rule(r"invalidParameter\.robotCode\.downloadCode", True, "the file is not there any more; it must be sent again"),
    Rule(r"invalidParameter\.robotCode\..*", True, "robot_code does not belong to this app; check the credential"),
    Rule(r"param\.templateNotExist", True, "the card template does not exist; check card_template_id"),
    Rule(r"unknownError", True, "the card template may lack the Markdown variable 'content'; check the template"),
    Rule(r"http-429", False, "it is busy; it is tried again", "rate"),
    Rule(r"-1|15|system\..*|http-5\d\d", False, "it is busy; it is tried again"),
)


def refusal(call: str, status: int, answer: Any, retry_after: str = "") -> Refused:
    """What an HTTP answer that is no success means. ``call`` completes "DingTalk refused to ...".

    Only codes, scopes and addresses are taken over from the answer, never its free text.
    """
    if is_blocked(answer) and (status < 300 or isinstance(answer, Mapping)):
        words = "it blocks this server's address for too many calls, for five minutes"
        message = f"DingTalk refused to {call}: {words}"
        return Refused(message, "blocked", retry_after_s=BLOCKED_ADDRESS_S, meaning="address")
    code = answer_code(status, answer)
    rule = next((r for r in RULES if re.fullmatch(r.codes, code)), None)
    permanent = rule.permanent if rule else status < 500 and status != 429
    advice = rule.advice.format(detail=_detail(answer)) if rule else "see DingTalk's documentation for the code"
    message = f"DingTalk refused to {call}: {advice} (code {code})"
    meaning = rule.meaning if rule else ""
    return Refused(message, code, permanent=permanent, retry_after_s=_seconds(retry_after), meaning=meaning)


def is_blocked(answer: Any) -> bool:
    """Whether an answer is not the API's own but its gate's: a page, or an object that names a punishment."""
    return not isinstance(answer, Mapping) or "punish" in answer


def answer_code(status: int, answer: Any) -> str:
    """The new API's ``code``, the old one's ``errcode``, or the HTTP status."""
    given = answer.get("code", answer.get("errcode")) if isinstance(answer, Mapping) else None
    code = str(given) if isinstance(given, str | int) else ""
    return code if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", code) else f"http-{status}"


def _detail(answer: Any) -> str:
    """The scopes an app lacks, or the address that is not on its list."""
    if not isinstance(answer, Mapping):
        return ""
    details = answer.get("accessdenieddetail")
    scopes = details.get("requiredScopes") if isinstance(details, Mapping) else None
    names = [s for s in scopes if isinstance(s, str) and re.fullmatch(r"[\w.:-]{1,60}", s)] if scopes else []
    address = re.search(r"request ip\W{1,3}([0-9a-fA-F.:]{3,45})", f"{answer.get('message')} {answer.get('errmsg')}")
    return f" ({', '.join(names)})" if names else f" {address[1]}" if address else ""


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if re.fullmatch(r"[0-9]{1,5}", retry_after) else None
