"""Robot callbacks: from raw body to IncomingMessage. Pure; knows no network and no clock but the request's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from integrations.base import (
    Attachment,
    Challenge,
    ChatType,
    Credentials,
    Ignored,
    Inbound,
    IncomingMessage,
    ReplyTarget,
    WebhookRequest,
)
from integrations.dingtalk.crypto import verify_callback
from integrations.errors import AuthenticationError, PayloadError

Json = Mapping[str, Any]

MAX_DEPTH = 32
MAX_ID_CHARS = 256
MAX_URL_CHARS = 2_000
OVER_QUOTA = "20001"

_CHAT_TYPES: dict[str, ChatType] = {"1": "direct", "2": "group"}
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL refuses NUL, UTF-8 refuses lone surrogates


def open_callback(request: WebhookRequest, credentials: Credentials) -> Json | Challenge:
    """Authenticate a callback and return its JSON object; the console's unsigned probe is a Challenge."""
    if is_probe(request):
        return Challenge({})
    verify_callback(request.headers, credentials.app_secret, int(request.received_at_s * 1000))
    payload = strict_object(request.body)
    check_addressee(payload, credentials)
    return payload


def is_probe(request: WebhookRequest) -> bool:
    """Whether this is the reachability test of DingTalk's console: unsigned, and empty or no JSON.

    Source: PROTOCOL.md, "Console probe".
    """
    if "timestamp" in request.headers or "sign" in request.headers:
        return False
    try:
        json.loads(request.body)
    except RecursionError:
        return False
    except ValueError:
        return True
    return False


def strict_object(body: bytes) -> dict[str, Any]:
    """Exactly one JSON object in UTF-8, without NaN, at most MAX_DEPTH deep. Raises PayloadError."""
    try:
        payload = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise PayloadError("the body is not JSON") from problem
    if not isinstance(payload, dict):
        raise PayloadError("the body is not a JSON object")
    if _is_deeper(payload, MAX_DEPTH):
        raise PayloadError("the JSON is nested too deep")
    return payload


def check_addressee(payload: Json, credentials: Credentials) -> None:
    """The signature covers no body, so the robot and the company it names must be ours. Raises AuthenticationError.

    Only a notice of the platform, which is never answered, may come without its company.
    """
    if payload.get("robotCode", credentials.app_id) not in (robot_code(credentials), credentials.app_id):
        raise AuthenticationError("the message is for another robot")
    corp_id = payload.get("chatbotCorpId")
    is_nameless_notice = corp_id is None and _error_code(payload) != ""
    if credentials.corp_id and corp_id != credentials.corp_id and not is_nameless_notice:
        raise AuthenticationError("the message is from another company")


def robot_code(credentials: Credentials) -> str:
    """An internal app's robot code is its client id. Source: PROTOCOL.md, "Message body"."""
    return credentials.robot_code or credentials.app_id


def parse_message(payload: Json, credentials: Credentials) -> Inbound:
    """Turn a callback's object into a message. Source: PROTOCOL.md, "Message body", "Message kinds"."""
    if code := _error_code(payload):
        return Ignored("over_quota" if code == OVER_QUOTA else "platform_error")
    chat_type = _CHAT_TYPES.get(str(payload.get("conversationType")))
    if chat_type is None:
        return Ignored("unknown_conversation_type")
    text, attachments = _content(payload)
    staff_id = _id(payload, "senderStaffId")
    sender_id = staff_id or _id(payload, "senderId") or _missing("senderStaffId and senderId")
    return IncomingMessage(
        message_id=_id(payload, "msgId") or _missing("msgId"),
        text=text,
        sender_id=sender_id,
        target=_target(payload, credentials, chat_type, staff_id, sender_id),
        kind="text" if text else "unsupported",
        sender_name=_string(payload.get("senderNick")),
        attachments=attachments,
        sent_at_s=_epoch_s(payload.get("createAt")),
        tenant_id=_id(payload, "chatbotCorpId"),
    )


def session_url(webhook: str, oapi_url: str) -> str:
    """``webhook`` rebuilt upon DingTalk's own origin; empty when it names any other: the body is not signed."""
    if not (webhook.isascii() and webhook.isprintable() and len(webhook) <= MAX_URL_CHARS and " " not in webhook):
        return ""
    if not same_origin(webhook, oapi_url):
        return ""
    base, parts = urlsplit(oapi_url), urlsplit(webhook)
    return f"{base.scheme}://{base.netloc}{parts.path}?{parts.query}"


def same_origin(url: str, base: str) -> bool:
    """Whether ``url`` leads to ``base``'s scheme, host and port, and to nobody's account there."""
    try:
        origin, own = _origin(url), _origin(base)
    except ValueError:
        return False
    return origin == own and bool(own[1]) and "@" not in urlsplit(url).netloc


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _target(payload: Json, credentials: Credentials, chat_type: ChatType, staff_id: str, sender_id: str) -> ReplyTarget:
    chat_id = _id(payload, "conversationId")
    if not chat_id and chat_type == "group":
        _missing("conversationId")
    return ReplyTarget(
        chat_id=chat_id or sender_id,
        chat_type=chat_type,
        message_id=_id(payload, "msgId"),
        sender_id=staff_id,
        webhook_url=session_url(_string(payload.get("sessionWebhook")), credentials.oapi_url),
        webhook_expires_at_s=_epoch_s(payload.get("sessionWebhookExpiredTime")),
    )


def _content(payload: Json) -> tuple[str, tuple[Attachment, ...]]:
    """What there is to answer, and the files that came along."""
    content = _object(payload.get("content"))
    match payload.get("msgtype"):
        case "text":
            text = _object(payload.get("text")).get("content", payload.get("content"))
            return _string(text).strip(), ()
        case "richText":
            return _rich_text(content.get("richText"))
        case "audio":
            return _string(content.get("recognition")).strip(), _attachments("audio", content)
        case "picture":
            return "", _attachments("image", content)
        case "file":
            return "", _attachments("file", content)
        case "video":
            return "", _attachments("video", content)
        case _:
            return "", ()


def _rich_text(runs: Any) -> tuple[str, tuple[Attachment, ...]]:
    """Runs of text stand side by side; a picture between them ends a line."""
    text = ""
    attachments: tuple[Attachment, ...] = ()
    for run in runs if isinstance(runs, list) else ():
        run = _object(run)
        pictures = _attachments("image", run) if run.get("type") == "picture" else ()
        attachments += pictures
        text += "\n" if pictures else _string(run.get("text"))
    return text.strip(), attachments


def _attachments(kind: Any, content: Json) -> tuple[Attachment, ...]:
    key = _string(content.get("downloadCode")) or _string(content.get("pictureDownloadCode"))
    return (Attachment(kind, key, _string(content.get("fileName"))),) if key else ()


def _object(value: Any) -> Json:
    """An object, also one that DingTalk sent as a JSON string; else an empty one."""
    if isinstance(value, str):
        try:
            value = strict_object(value.encode("utf-8", "replace"))
        except PayloadError:
            return {}
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return _UNSTORABLE.sub("", value) if isinstance(value, str) else ""


def _id(payload: Json, name: str) -> str:
    value = payload.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS:
        raise PayloadError(f"{name} is no id")
    return _string(value)


def _missing(names: str) -> NoReturn:
    raise PayloadError(f"the message has no {names}")


def _error_code(payload: Json) -> str:
    code = payload.get("errorCode")
    return "" if code in (None, 0, "0", "") else str(code)


def _epoch_s(value: Any) -> float:
    """Milliseconds, as number or text, to seconds; 0 for anything else."""
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,15}", str(value)):
        return 0.0
    return int(value) / 1000


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    nodes = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in nodes if isinstance(child, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
