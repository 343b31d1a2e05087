"""Authentic callbacks of both platforms, of any time and app; how one is written to a connection, and miswritten."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import urlencode

from integrations.dingtalk.crypto import EventKeys, callback_signature, card_secret
from integrations.feishu.crypto import encrypt, event_signature
from integrations.values import Credentials, WebhookRequest

JSON = {"content-type": "application/json"}
Make = Callable[[Credentials, str, str, float], WebhookRequest]  # app, id, text, when


def feishu_message(app: Credentials, message_id: str, text: str, at_s: float) -> WebhookRequest:
    message = {"message_id": message_id, "chat_id": "oc_1", "chat_type": "p2p", "message_type": "text"}
    sender = {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}
    header = {"event_id": f"e{message_id}", "token": app.verification_token, "app_id": app.app_id, "tenant_key": "t"}
    event = {
        "schema": "2.0",
        "header": {**header, "event_type": "im.message.receive_v1"},
        "event": {"sender": sender, "message": {**message, "content": json.dumps({"text": text})}},
    }
    body = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), app.encrypt_key)}).encode()
    now, nonce = str(int(at_s)), secrets.token_hex(8)
    signature = event_signature(now, nonce, app.encrypt_key, body)
    names = ("x-lark-request-timestamp", "x-lark-request-nonce", "x-lark-signature")
    return WebhookRequest(JSON | dict(zip(names, (now, nonce, signature), strict=True)), body, at_s)


def dingtalk_message(app: Credentials, message_id: str, text: str, at_s: float) -> WebhookRequest:
    body = {
        "msgId": message_id,
        "msgtype": "text",
        "text": {"content": text},
        "conversationType": "1",
        "conversationId": "cid1",
        "senderStaffId": "staff1",
        "senderId": "s1",
        "robotCode": app.app_id,
        "chatbotCorpId": app.corp_id,
    }
    now = str(int(at_s * 1000))
    headers = JSON | {"timestamp": now, "sign": callback_signature(now, app.app_secret)}
    return WebhookRequest(headers, json.dumps(body).encode(), at_s)


def dingtalk_event(app: Credentials, event_id: str, text: str, at_s: float) -> WebhookRequest:
    now, keys = str(int(at_s * 1000)), EventKeys(app.verification_token, app.encrypt_key, (app.app_id,))
    payload = {"EventType": "chat_disband", "CorpId": app.corp_id, "OpenConversationId": text, "eventId": event_id}
    sealed = keys.seal(json.dumps(payload).encode(), now)
    query = {"signature": sealed["msg_signature"], "timestamp": now, "nonce": sealed["nonce"]}
    return WebhookRequest(JSON, json.dumps({"encrypt": sealed["encrypt"]}).encode(), at_s, query)


def dingtalk_button(app: Credentials, card_id: str, text: str, at_s: float) -> WebhookRequest:
    content = json.dumps({"cardPrivateData": {"actionIds": ["stop"], "params": {}}})
    body = {"type": "actionCallback", "outTrackId": card_id, "corpId": app.corp_id, "userId": text, "content": content}
    body |= {"spaceType": "IM_GROUP", "spaceId": "cidGroup=="}
    now = str(int(at_s * 1000))
    signature = hmac.new(card_secret(app.app_secret).encode(), now.encode(), hashlib.sha256).digest()
    signed = {"x-ddpaas-signature-timestamp": now, "x-ddpaas-signature": base64.b64encode(signature).decode()}
    return WebhookRequest(JSON | signed, json.dumps(body).encode(), at_s)


@dataclass(frozen=True, slots=True)
class Wire:
    """One request as bytes; ``is_whole`` is false where its end never comes."""

    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    method: bytes = b"POST"
    version: bytes = b"HTTP/1.1"
    is_whole: bool = True

    def written(self) -> bytes:
        lines = [b"%s %s %s" % (self.method, self.target, self.version)]
        lines += [b"%s: %s" % header for header in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def wire(request: WebhookRequest, path: str) -> Wire:
    query = f"?{urlencode(request.query)}" if request.query else ""
    given = [(name.encode(), value.encode()) for name, value in request.headers.items()]
    given += [(b"host", b"127.0.0.1"), (b"content-length", b"%d" % len(request.body))]
    return Wire((path + query).encode(), tuple(given), request.body)


def as_heard(request: WebhookRequest) -> WebhookRequest:
    """What a server reads of it: headers are bytes, without the blanks around them."""
    heard = {name: value.encode().decode("latin-1").strip(" \t") for name, value in request.headers.items()}
    return replace(request, headers=heard)


# -- ways in which only the writing is wrong, or the address --


def _with_header(sent: Wire, name: bytes, value: bytes) -> Wire:
    kept = tuple(header for header in sent.headers if header[0] != name)
    return replace(sent, headers=(*kept, (name, value)))


def wrong_key(sent: Wire, random: Random) -> Wire:
    """One sign of the key is another, is missing, or is in the other case."""
    path, mark, query = sent.target.partition(b"?")
    start, _slash, key = path.rstrip(b"/").rpartition(b"/")
    place = random.randrange(len(key))
    sign = random.choice(b"ABCdef019_-".replace(key[place : place + 1], b""))
    wrong = random.choice(
        [key[:place] + bytes([sign]) + key[place + 1 :], key[:place] + key[place + 1 :], key.swapcase()]
    )
    return replace(sent, target=start + b"/" + wrong + b"/" + mark + query)


def odd_address(sent: Wire, random: Random) -> Wire:
    path, mark, query = sent.target.partition(b"?")
    parts = path.strip(b"/").split(b"/")
    odd = random.choice([
        b"/" + b"/".join(parts[::-1]),
        b"/" + b"/".join([*parts, b"more"]) + b"/",
        b"/" + parts[0] + b"/" + parts[2] + b"/",
        b"/webhooks/" + random.choice([b"web", b"FEISHU", b"x" * 30, b"..", b"%00"]) + b"/" + parts[2] + b"/",
        b"/" + b"/".join(parts[:2]) + b"/%s%%0d%%0aX:1/" % parts[2],
        b"/" + b"/".join(parts[:2]) + b"/" + parts[2] + b"%ff/",
        b"/" + b"/".join(parts[:2]) + b"/" + b"a" * 5000 + b"/",
    ])  # fmt: skip
    return replace(sent, target=odd + mark + query)


def other_method(sent: Wire, random: Random) -> Wire:
    return replace(sent, method=random.choice([b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"post"]))


def other_type(sent: Wire, random: Random) -> Wire:
    kinds = (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"json",
        b"",
        b"\xff",
    )
    return _with_header(sent, b"content-type", random.choice(kinds))


def false_length(sent: Wire, random: Random) -> Wire:
    """Shorter than the body is, none at all, two of them, or what is no number."""
    length = b"%d" % len(sent.body)
    kept = tuple(header for header in sent.headers if header[0] != b"content-length")
    shorter = b"%d" % random.randrange(len(sent.body))
    given = random.choice([(shorter,), (length, shorter), (b"-1",), (b"1e3",), (b"9" * 30,), (b"2000000",), (b"0x10",)])
    return replace(sent, headers=(*kept, *((b"content-length", each) for each in given)), is_whole=False)


def cut_off(sent: Wire, random: Random) -> Wire:
    return replace(sent, body=sent.body[: random.randrange(len(sent.body))], is_whole=False)


def smuggled(sent: Wire, random: Random) -> Wire:
    return replace(_with_header(sent, b"transfer-encoding", random.choice([b"chunked", b"gzip", b"x"])), is_whole=False)


def many_headers(sent: Wire, random: Random) -> Wire:
    more = random.choice([((b"x-%d" % n, b"1") for n in range(200)), [(b"x-long", b"y" * 20_000)], [(b"x y", b"1")]])
    return replace(sent, headers=(*sent.headers, *more), is_whole=False)


def too_large(sent: Wire, random: Random) -> Wire:
    body = random.choice([sent.body + b" " * (1 << 20), b'{"a":' * 200_000 + b"1" + b"}" * 200_000])
    return replace(_with_header(sent, b"content-length", b"%d" % len(body)), body=body, is_whole=False)


def no_http(sent: Wire, random: Random) -> Wire:
    return replace(sent, version=random.choice([b"HTTP/9.9", b"HTTP", b"", b"SIP/2.0"]), is_whole=False)


MISWRITTEN = (
    wrong_key,
    wrong_key,
    odd_address,
    other_method,
    other_type,
    false_length,
    cut_off,
    smuggled,
    many_headers,
    no_http,
)


# -- ways in which what is asked for is altered --


def deeper(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    depth = random.choice((31, 33, 1000, 20_000))
    return replace(request, body=request.body[:-1] + b', "deep": ' + b"[" * depth + b"]" * depth + b"}")


def doubled_key(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    """The other's value of a key before or behind the right one."""
    name, value = random.choice(list(json.loads(other.body).items()))
    member = json.dumps({name: value})[1:-1].encode()
    body = request.body
    return replace(request, body=random.choice([b"{" + member + b", " + body[1:], body[:-1] + b", " + member + b"}"]))


def other_charset(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    charset = random.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037"])
    return replace(request, body=request.body.decode().encode(charset))


def doubled_header(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    """As a server joins two of one name."""
    name = random.choice(sorted(request.headers))
    wrong = other.headers.get(name, "x")
    value = random.choice([f"{request.headers[name]},{wrong}", f"{wrong},{request.headers[name]}"])
    return replace(request, headers={**request.headers, name: value})


ALTERED: tuple[Any, ...] = (deeper, doubled_key, other_charset, doubled_header)
