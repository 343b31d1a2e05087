"""Feishu's error codes: what each means, whether trying again helps, in words an admin can act on.

Pure: one answer in, one error out. Source: PROTOCOL.md, "Error codes".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from integrations.errors import PlatformError

TOKEN_REFUSED = frozenset({99991661, 99991663, 99991664, 99991665, 99991668, 99991671, 99991677})
RATE_LIMITED = frozenset({99991400, 230020, 11232, 11233, 11247})
REPLY_IMPOSSIBLE = frozenset({230011, 230019, 230050, 230071, 230072, 230110, 230111, 231003})
MESSAGE_UNSEEN = frozenset({230002, 230050, 230110, 230111, 231003, 230011})
FILE_TOO_LARGE = frozenset({234006, 234037})
STREAMING_OVER = frozenset({200850, 300309})
SEQUENCE_USED = 300317
BUSY = frozenset({200810, 230049})  # pass within a second
CENSORED = frozenset({230022, 230028})
CARD_REFUSED = frozenset(
    {
        10002,
        11310,
        200220,
        200550,
        200570,
        200621,
        200732,
        200860,
        200861,
        200914,
        230099,
        300301,
        300305,
        300307,
        300313,
    }
)
UNSURE_STATUSES = frozenset({502, 504})  # a gateway's answer says nothing about the call behind it

_DEFAULT_WAIT_S = 1.0
_LONGEST_MESSAGE = 300
_RETRY, _GIVE_UP = False, True

_MEANINGS: Mapping[int, tuple[str, bool]] = {
    2200: ("internal error of the platform", _RETRY),
    9499: ("malformed call", _GIVE_UP),
    10002: ("malformed call", _GIVE_UP),
    10003: ("malformed call: check App ID and App Secret", _GIVE_UP),
    10014: ("unknown or disabled app: check the App ID and enable the app in Feishu's console", _GIVE_UP),
    10015: ("wrong App Secret: copy it again from Feishu's console", _GIVE_UP),
    11205: ("the app's bot ability is off: enable it and publish a version", _GIVE_UP),
    11232: ("too many messages", _RETRY),
    11233: ("too many messages", _RETRY),
    11247: ("too many messages", _RETRY),
    41012: ("nobody has this id", _GIVE_UP),
    41050: ("this person is outside the app's contact range", _GIVE_UP),
    200740: ("the card no longer exists", _GIVE_UP),
    200810: ("somebody is using the card at this moment", _RETRY),
    212100: ("the app is not installed in this company", _GIVE_UP),
    230002: ("the bot is not in this chat: add it to the group", _GIVE_UP),
    230006: ("the app's bot ability is off: enable it and publish a version", _GIVE_UP),
    230011: ("the message to reply to was recalled", _GIVE_UP),
    230013: ("this person is outside the app's availability range", _GIVE_UP),
    230018: ("the group's settings forbid the bot to speak", _GIVE_UP),
    230020: ("too many messages in this chat", _RETRY),
    230022: ("the platform's content check refused the text", _GIVE_UP),
    230025: ("the message is too long", _GIVE_UP),
    230027: ("a permission is missing, or this is an external group", _GIVE_UP),
    230028: ("the company's data protection refused the text", _GIVE_UP),
    230035: ("the bot may not send here (muted, blocked or policy)", _GIVE_UP),
    230049: ("the message is still being sent", _RETRY),
    230053: ("this person has switched the bot off", _GIVE_UP),
    230099: ("the card was refused", _GIVE_UP),
    230110: ("the message was deleted", _GIVE_UP),
    231003: ("the message to reply to no longer exists", _GIVE_UP),
    232009: ("the group was dissolved", _GIVE_UP),
    234001: ("malformed call", _GIVE_UP),
    234003: ("the file is not in this message", _GIVE_UP),
    234004: ("the bot is not in the chat of this file", _GIVE_UP),
    234006: ("the file is too large", _GIVE_UP),
    234008: ("the file belongs to another app", _GIVE_UP),
    234009: ("files of an external group cannot be fetched", _GIVE_UP),
    234037: ("the file is too large: Feishu gives out 100 MB at most", _GIVE_UP),
    234038: ("the company's data protection forbids to fetch this file", _GIVE_UP),
    234040: ("the message of this file is not visible to the bot", _GIVE_UP),
    234043: ("files of this kind of message cannot be fetched", _GIVE_UP),
    300120: ("internal error of the platform", _RETRY),
    300122: ("internal error of the platform", _RETRY),
    300309: ("the card's streaming mode is over", _GIVE_UP),
    300317: ("another worker wrote to the card", _RETRY),
    99991400: ("too many calls", _RETRY),
    99991401: ("this server's address is not on the app's IP allow list", _GIVE_UP),
    99991403: ("the month's call quota is used up", _GIVE_UP),
    99991663: ("the access token is refused", _RETRY),
    99991672: ("a permission scope is missing: grant it in Feishu's console and publish a version", _GIVE_UP),
    99991673: ("the app is not available in this company", _GIVE_UP),
}
# Nobody may be spoken to there, or the app does not work: no other form of the message would pass.
_WHATEVER_THE_FORM = frozenset(
    {0, 10003, 10014, 10015, 11205, 212100, 230002, 230006, 230013, 230018, 230027, 230029, 230034, 230035, 230038}
    | {230053, 232009, 99991401, 99991403, 99991672, 99991673}
)


class FeishuError(PlatformError):
    """A call that failed. ``code`` is Feishu's, 0 where no answer with one came.

    ``is_refusal``: the call certainly had no effect. Otherwise it may have had.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        permanent: bool = False,
        retry_after_s: float | None = None,
        is_refusal: bool = True,
    ) -> None:
        super().__init__(message, permanent=permanent, retry_after_s=retry_after_s)
        self.code = code
        self.is_refusal = is_refusal

    @property
    def is_rate_limit(self) -> bool:
        return self.code in RATE_LIMITED


def is_about_form(error: FeishuError) -> bool:
    """Whether the same words may pass in another form: the refusal is about none of place, person, app or wording."""
    return error.permanent and error.code not in _WHATEVER_THE_FORM | CENSORED | REPLY_IMPOSSIBLE


def from_answer(
    call: str, status: int, headers: Mapping[str, str], body: Any, secrets: Iterable[str] = ()
) -> FeishuError:
    """The error for an answer other than ``code`` 0. The body's code decides; the HTTP status only where none is.

    ``secrets``: what the call was made with, and the answer's own words must not repeat.
    """
    code = body.get("code") if isinstance(body, dict) else None
    if not isinstance(code, int) or isinstance(code, bool) or code == 0:
        return _without_code(call, status, _wait_s(headers))
    meaning, is_permanent = _MEANINGS.get(code, ("refused", status != 429 and status < 500))
    wait_s = _wait_s(headers) if not is_permanent else None
    if code in RATE_LIMITED:
        wait_s = wait_s or _DEFAULT_WAIT_S
    said = _said(body, secrets)
    message = f"Feishu, {call}: {meaning} (code {code}{', ' + said if said else ''})"
    return FeishuError(message, code=code, permanent=is_permanent, retry_after_s=wait_s)


def from_silence(call: str, problem: Exception, *, is_refusal: bool) -> FeishuError:
    """The error for a call that nobody answered."""
    words = "could not be reached" if is_refusal else "did not answer"
    return FeishuError(f"Feishu, {call}: {words} ({type(problem).__name__})", is_refusal=is_refusal)


def _without_code(call: str, status: int, wait_s: float | None) -> FeishuError:
    if 200 <= status < 300 or status in UNSURE_STATUSES:
        return FeishuError(f"Feishu, {call}: unreadable answer (HTTP {status})", is_refusal=False, retry_after_s=wait_s)
    is_permanent = status < 500 and status != 429
    advice = ": check the platform's base address" if is_permanent else ""
    return FeishuError(f"Feishu, {call}: HTTP {status}{advice}", permanent=is_permanent, retry_after_s=wait_s)


def _wait_s(headers: Mapping[str, str]) -> float | None:
    for name in ("x-ogw-ratelimit-reset", "retry-after"):
        try:
            return min(max(float(headers[name]), 0.0), 3600.0)
        except (KeyError, ValueError):  # a date is as good as nothing: our own pace takes over
            continue
    return None


def _said(body: Mapping[str, Any], secrets: Iterable[str]) -> str:
    """The platform's own words: they name missing scopes and link to the page that grants them."""
    said = body.get("msg")
    if not isinstance(said, str):
        return ""
    for secret in filter(None, secrets):
        said = said.replace(secret, "***")
    return re.sub(r"\s+", " ", said).strip()[:_LONGEST_MESSAGE]
