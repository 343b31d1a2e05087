"""Custom group robots of DingTalk: their address, their signature, their one call.

Source: PROTOCOL.md, "Custom group robots".

A repeat carries the same ``msgUuid``, so a call whose answer was lost is made once more and shows only once.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import httpx
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security.outbound import OutboundRefused
from integrations import pacing
from integrations.dingtalk import cards, limits
from integrations.dingtalk.cards import Message
from integrations.dingtalk.crypto import callback_signature
from integrations.dingtalk.events import same_origin
from integrations.dingtalk.refusals import UNREACHABLE, Refused, answer_code, is_blocked, refusal
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.metering import metered
from integrations.pacing import Bucket, Limit
from integrations.robots import RobotAddress
from integrations.traffic import HeldBack

ORIGINS: Final = ("https://oapi.dingtalk.com", "https://oapi.dingtalk.io")
PATH: Final = "/robot/send"
TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
PACE: Final = Limit(burst=10, interval_s=6.0)  # never more than 20 in any minute: one more costs ten minutes of silence
THROTTLED_S: Final = 600.0
MOST_PARTS: Final = 3  # of one message: the robot's minute has room for 20 in all
TRIES: Final = 2
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")
_CALL = "send by the group robot"

# A pattern for what errcode 310000 says, in either language -> what is wrong.
_UNSAFE: Final[tuple[tuple[str, Any], ...]] = (
    (r"keyword|关键词", gettext_lazy("the message holds none of the keywords that are set for the robot")),
    (r"timestamp|时间戳", gettext_lazy("this server's clock is more than an hour off")),
    (r"sign|签名", gettext_lazy("the signing secret is not the robot's: copy it again, it begins with SEC")),
    (r"\bip\b|whitelist|白名单", gettext_lazy("this server's public address is not on the robot's list")),
)
_GONE: Final[Mapping[str, Any]] = {
    "400013": gettext_lazy("the group is gone"),
    "400101": gettext_lazy("it knows no such access token: copy the webhook address again"),
    "300001": gettext_lazy("it knows no such access token: copy the webhook address again"),
    "400102": gettext_lazy("the robot is switched off in the group's settings"),
    "400106": gettext_lazy("the robot is not in the group any more"),
}


def address(given: str, bases: Sequence[str]) -> str:
    given = given.strip()
    if _TOKEN.fullmatch(given):
        return _with_token(bases[0], given)
    try:
        parts, base = urlsplit(given), next((base for base in bases if same_origin(given, base)), "")
        tokens = parse_qs(parts.query).get("access_token", [])
    except ValueError:
        base, tokens = "", []
    if not base or parts.path.rstrip("/") != PATH:
        raise ValueError(_("Paste the whole webhook address of the robot; it begins with %s.") % f"{bases[0]}{PATH}")
    if len(tokens) != 1 or not _TOKEN.fullmatch(tokens[0]):
        raise ValueError(_("The address lacks its access_token: copy the whole webhook address from the robot."))
    return _with_token(base, tokens[0])


def send(robot: RobotAddress, title: str, text: str, http: httpx.Client, *, is_markdown: bool = True) -> None:
    for message in _messages(title, text, is_markdown):
        _send(robot, {**cards.webhook_message(message), "msgUuid": uuid.uuid4().hex}, http)


def signed(robot: RobotAddress, now_ms: int) -> str:
    """The address with time stamp and signature; as it is for a robot without a signing secret."""
    if not robot.secret:
        return robot.url
    sign = quote(callback_signature(str(now_ms), robot.secret), safe="")
    return f"{robot.url}&timestamp={now_ms}&sign={sign}"


def _with_token(base: str, token: str) -> str:
    return f"{base}{PATH}?access_token={token}"


def _messages(title: str, text: str, is_markdown: bool) -> tuple[Message, ...]:
    """DingTalk shows a title in notices only, so it heads the text as well."""
    name = " ".join(title.split())
    if is_markdown:
        parts = cards.messages(f"#### {name}\n\n{text}" if name else text, MOST_PARTS)
    else:
        parts = cards.literal_messages(f"{name}\n\n{text}" if name else text, MOST_PARTS)
    if not parts:
        raise PlatformError(_("There is nothing in it to read."), permanent=True)
    return parts


def _send(robot: RobotAddress, body: Mapping[str, Any], http: httpx.Client) -> None:
    own = Bucket("robot", f"dingtalk:robot:{robot.id}", PACE)
    if wait_s := pacing.wait_for((own, limits.address(_origin(robot.url))), pacing.LONGEST_WAIT_S):
        raise HeldBack(_("Too many messages for this group robot; DingTalk allows 20 a minute."), retry_after_s=wait_s)
    with metered("dingtalk", "robot"):
        problem = _problem(_answered(robot, body, http))
        if problem and problem.meaning == "chat rate":
            pacing.buckets().hold(own, THROTTLED_S)
        if problem:
            raise problem


def _answered(robot: RobotAddress, body: Mapping[str, Any], http: httpx.Client) -> httpx.Response:
    """Asked twice at most; the second time DingTalk knows the message by its ``msgUuid``."""
    for tries_left in reversed(range(TRIES)):
        url = signed(robot, int(time.time() * 1000))
        try:
            response = http.post(url, json=body, timeout=TIMEOUT, follow_redirects=False)
        except OutboundRefused as problem:
            raise Refused(str(problem), UNREACHABLE, permanent=True) from problem
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as problem:
            words = _("DingTalk was not reached: check this server's network.")
            raise Refused(words, UNREACHABLE) from problem
        except httpx.RequestError:
            continue
        if response.status_code not in (502, 504) or not tries_left:
            return response
    raise OutcomeUnknown(_("DingTalk's answer was lost; the message may have arrived."))


def _problem(response: httpx.Response) -> Refused | None:
    answer = _json(response)
    if response.is_success and isinstance(answer, dict) and answer.get("errcode") == 0 and not is_blocked(answer):
        return None
    code = answer_code(response.status_code, answer)
    if words := _words(code, answer):
        text = _("DingTalk refused the message: %(words)s (code %(code)s)") % {"words": words, "code": code}
        return Refused(text, code, permanent=True)
    problem = refusal(_CALL, response.status_code, answer, response.headers.get("retry-after", ""))
    if problem.meaning == "chat rate":
        problem.retry_after_s = THROTTLED_S
    return problem


def _words(code: str, answer: Any) -> str:
    if code in _GONE:
        return str(_GONE[code])
    if code != "310000":
        return ""
    said = str(answer.get("errmsg", ""))
    found = next((str(words) for pattern, words in _UNSAFE if re.search(pattern, said, re.IGNORECASE)), "")
    return found or _("the robot's security settings refuse it: keywords, signing or addresses")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None
