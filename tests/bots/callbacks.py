"""Callbacks as the platforms send them, signed, and the way through the whole ASGI stack."""

from __future__ import annotations

import json
import secrets
import time

from channels.db import database_sync_to_async
from channels.testing import HttpCommunicator

from clawdbot_site.asgi import application
from integrations.dingtalk.crypto import callback_signature
from integrations.feishu.crypto import encrypt, event_signature

in_database = database_sync_to_async
Headers = dict[str, str]


async def post(
    path: str, body: bytes, headers: Headers | None = None, method: str = "POST", client: str = "127.0.0.1"
) -> tuple[int, object]:
    sent = {"content-type": "application/json", "host": "127.0.0.1", **(headers or {})}
    pairs = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    communicator = HttpCommunicator(application, method, path, body, pairs)
    communicator.scope["client"] = (client, 1234)
    answer = await communicator.get_response(timeout=10)
    return answer["status"], json.loads(answer["body"] or b"null")


def path_of(endpoint) -> str:
    return f"/webhooks/{endpoint.credential.platform}/{endpoint.key}/"


def feishu_event(
    endpoint, text: str = "Hello", *, message_id: str = "om_1", sign_key: str = "", **more: object
) -> tuple[bytes, Headers]:
    credential, now = endpoint.credential, str(int(time.time()))
    message = {
        "message_id": message_id,
        "chat_id": "oc_1",
        "chat_type": "p2p",
        "message_type": "text",
        "content": json.dumps({"text": text}),
        **more,
    }
    event = {
        "schema": "2.0",
        "header": {
            "event_id": secrets.token_hex(4),
            "token": credential.verification_token,
            "event_type": "im.message.receive_v1",
            "app_id": credential.app_id,
            "tenant_key": "t",
        },
        "event": {"sender": {"sender_id": {"open_id": "ou_1"}, "sender_type": "user"}, "message": message},
    }
    body = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), credential.encrypt_key)}).encode()
    signature = event_signature(now, "n", sign_key or credential.encrypt_key, body)
    return body, {"X-Lark-Request-Timestamp": now, "X-Lark-Request-Nonce": "n", "X-Lark-Signature": signature}


def dingtalk_message(endpoint, text: str = "Hello", **fields: object) -> tuple[bytes, Headers]:
    now = str(int(time.time() * 1000))
    body = {
        "msgId": "msg1",
        "msgtype": "text",
        "text": {"content": text},
        "conversationType": "1",
        "conversationId": "cid1",
        "senderStaffId": "staff1",
        "senderId": "s1",
        "robotCode": endpoint.credential.app_id,
        "chatbotCorpId": "corp1",
        **fields,
    }
    sign = callback_signature(now, endpoint.credential.app_secret)
    return json.dumps(body).encode(), {"timestamp": now, "sign": sign}
