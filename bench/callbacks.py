"""DingTalk callbacks as raw HTTP/1.1 requests, each message once, correctly signed, made before the clock starts."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass

from bench.measured import Job
from integrations.dingtalk.crypto import callback_signature

TEXT = "What does the office in Hangzhou serve for lunch on Thursday?"


@dataclass(frozen=True, slots=True)
class Callback:
    uid: str
    request: bytes


def callbacks(job: Job, platform_port: int) -> list[Callback]:
    run, now_ms = secrets.token_hex(4), int(time.time() * 1000)
    head = _head(job, now_ms)
    made = []
    for number in range(job.most):
        uid = f"{run}-{number}"
        body = _body(job, uid, job.first_person + number % job.people, now_ms, platform_port)
        made.append(Callback(uid, head + f"content-length: {len(body)}\r\n\r\n".encode() + body))
    return made


def _head(job: Job, now_ms: int) -> bytes:
    """DingTalk signs its clock and not the body, so that one signature serves all messages of a moment."""
    lines = [
        f"POST {job.door.path} HTTP/1.1",
        f"host: 127.0.0.1:{job.door.port}",
        "content-type: application/json; charset=utf-8",
        f"timestamp: {now_ms}",
        f"sign: {callback_signature(str(now_ms), job.door.secret)}",
        "",
    ]
    return "\r\n".join(lines).encode()


def _body(job: Job, uid: str, person: int, now_ms: int, platform_port: int) -> bytes:
    message = {
        "conversationId": f"cid{person}",
        "conversationType": "1",
        "chatbotCorpId": "dingbench",
        "chatbotUserId": "$:LWCP_v1:$bot",
        "senderId": f"$:LWCP_v1:$person{person}",
        "senderStaffId": f"person{person}",
        "senderNick": "Bench",
        "msgId": f"msg-{uid}",
        "createAt": now_ms,
        "sessionWebhook": f"http://127.0.0.1:{platform_port}/robot/sendBySession?session={uid}",
        "sessionWebhookExpiredTime": now_ms + 5_400_000,
        "robotCode": job.door.app_id,
        "msgtype": "text",
        "text": {"content": TEXT},
    }
    return json.dumps(message, ensure_ascii=False).encode()
