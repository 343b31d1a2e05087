"""Custom group robots of Feishu: their address, their signature, their one call.

Feishu knows no id for a message of theirs, so one whose answer was lost is never repeated. A robot answers with
HTTP 200 whatever happened. Source: PROTOCOL.md, "Custom group robots".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security.outbound import OutboundRefused
from integrations import pacing
from integrations.errors import OutcomeUnknown, PlatformError
from integrations.feishu import cards, markdown, refusals, splitting
from integrations.feishu.refusals import FeishuError
from integrations.metering import metered
from integrations.pacing import Bucket, Limit
from integrations.robots import RobotAddress
from integrations.traffic import HeldBack

ORIGINS: Final = ("https://open.feishu.cn", "https://open.larksuite.com")
PATH: Final = "/open-apis/bot/v2/hook/"
TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
PACE: Final = Limit(burst=3, interval_s=0.65)  # 5 in any second and 100 in any minute are allowed
PART_BYTES: Final = 15_000  # of 20 KB, the rest is the card around the text
MOST_PARTS: Final = 3
LONGEST_TITLE: Final = 100
OFTEN, MALFORMED = 11232, 9499
OFTEN_S: Final = 60.0  # full and half hours are crowded for everybody
_HOOK = re.compile(r"[A-Za-z0-9_-]{8,100}")
_CALL: Final = "send by the group robot"
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

_WORDS: Final[Mapping[int, Any]] = {
    19001: gettext_lazy("it knows no such robot: copy the webhook address again"),
    19021: gettext_lazy(
        "the signing secret is not the robot's, or this server's clock is more than an hour off: copy the secret again"
    ),
    19022: gettext_lazy("this server's public address is not on the robot's list"),
    19024: gettext_lazy("the message holds none of the keywords that are set for the robot"),
    MALFORMED: gettext_lazy("it does not understand the message"),
}

Json = dict[str, Any]


def address(given: str, bases: Sequence[str]) -> str:
    given = given.strip()
    if _HOOK.fullmatch(given):
        return f"{bases[0]}{PATH}{given}"
    try:
        parts = urlsplit(given)
        origin = f"{parts.scheme}://{parts.netloc}".lower()
    except ValueError:
        parts, origin = urlsplit(""), ""
    base = next((one for one in bases if one.lower() == origin), "")
    hook = parts.path.rstrip("/").removeprefix(PATH)
    if not (base and parts.path.startswith(PATH) and _HOOK.fullmatch(hook)):
        raise ValueError(_("Paste the whole webhook address of the robot; it begins with %s.") % f"{bases[0]}{PATH}")
    return f"{base}{PATH}{hook}"


def send(robot: RobotAddress, title: str, text: str, http: httpx.Client, *, is_markdown: bool = True) -> None:
    for body, plain in messages(title, text) if is_markdown else literal_messages(title, text):
        try:
            _send(robot, body, http)
        except FeishuError as problem:
            if plain is None or problem.code != MALFORMED:
                raise
            _send(robot, plain, http)


def sign(timestamp: str, secret: str) -> str:
    """Timestamp and secret are the key; the message that is signed is empty."""
    digest = hmac.digest(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256)
    return base64.b64encode(digest).decode()


def messages(title: str, text: str) -> list[tuple[Json, Json | None]]:
    """Bodies without a signature, each with the plain text to send where its form is refused."""
    name = " ".join(markdown.plain(title).split())[:LONGEST_TITLE]
    if markdown.is_plain(text) and not name:
        return [(_text(part), None) for part in _parts(markdown.plain(text))]
    pieces = [markdown.clean_part(part) for part in _parts(markdown.clean(text) or name)]
    names = [name, *[""] * (len(pieces) - 1)]
    return [(_card(head, piece), _text(_headed(head, piece))) for head, piece in zip(names, pieces, strict=True)]


def literal_messages(title: str, text: str) -> list[tuple[Json, None]]:
    """Bodies that show the text sign for sign, whatever it would mean as Markdown."""
    return [(_text(part), None) for part in _parts(_headed(" ".join(title.split()), text))]


def _parts(text: str) -> list[str]:
    parts = splitting.split(text, PART_BYTES)
    if not parts:
        raise PlatformError(_("There is nothing in it to read."), permanent=True)
    if len(parts) > MOST_PARTS:
        parts[MOST_PARTS - 1] += "\n\n…"
    return parts[:MOST_PARTS]


def _headed(name: str, text: str) -> str:
    return markdown.plain(f"{name}\n{text}" if name else text)


def _text(text: str) -> Json:
    return {"msg_type": "text", "content": {"text": text}}


def _card(name: str, cleaned: str) -> Json:
    card: Json = {"schema": "2.0", "body": {"elements": [{"tag": "markdown", "content": cleaned}]}}
    if name:
        card["header"] = {"title": {"tag": "plain_text", "content": name}}
    return {"msg_type": "interactive", "card": card}


def _send(robot: RobotAddress, body: Json, http: httpx.Client) -> None:
    own = Bucket("robot", f"feishu:robot:{robot.id}", PACE)
    if wait_s := pacing.wait_for((own,), pacing.LONGEST_WAIT_S):
        raise HeldBack(_("Too many messages for this group robot; Feishu allows 100 a minute."), retry_after_s=wait_s)
    with metered("feishu", "robot"):
        secrets = (urlsplit(robot.url).path.rpartition("/")[2], robot.secret)
        problem = _problem(_answered(robot, {**_signature(robot.secret), **body}, http), secrets)
        if problem and problem.code == OFTEN:
            pacing.buckets().hold(own, OFTEN_S)
        if problem:
            raise problem


def _signature(secret: str) -> Json:
    now = str(int(time.time()))
    return {"timestamp": now, "sign": sign(now, secret)} if secret else {}


def _answered(robot: RobotAddress, body: Json, http: httpx.Client) -> httpx.Response:
    content, headers = cards.as_json(body).encode(), {"Content-Type": "application/json; charset=utf-8"}
    lost = OutcomeUnknown(_("Feishu's answer was lost; the message may have arrived."))
    try:
        answer = http.post(robot.url, content=content, headers=headers, timeout=TIMEOUT, follow_redirects=False)
    except OutboundRefused as problem:
        raise FeishuError(str(problem), permanent=True) from problem
    except _NOT_SENT as problem:
        raise FeishuError(_("Feishu was not reached: check this server's network.")) from problem
    except httpx.RequestError as problem:
        raise lost from problem
    if answer.status_code in refusals.UNSURE_STATUSES:
        raise lost
    return answer


def _problem(answer: httpx.Response, secrets: Sequence[str]) -> FeishuError | None:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    code = body.get("code") if isinstance(body, dict) else None
    if code == 0 and code is not False:
        return None
    if words := _WORDS.get(code) if isinstance(code, int) else None:
        text = _("Feishu refused the message: %(words)s (code %(code)s)") % {"words": words, "code": code}
        return FeishuError(text, code=code or 0, permanent=True)
    problem = refusals.from_answer(_CALL, answer.status_code, answer.headers, body, secrets)
    if problem.code == OFTEN:
        problem.retry_after_s = OFTEN_S
    return problem
