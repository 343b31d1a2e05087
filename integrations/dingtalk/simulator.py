"""Plays DingTalk for `manage.py simulate`: one app, one person, one direct chat, an AI card."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from integrations.dingtalk.crypto import callback_signature
from integrations.loopback import Callback, Json, PlatformSimulator, matches, plain

FILES = "/files/simulated.file"


class DingTalkSimulator(PlatformSimulator):
    def __init__(self, changed: Any) -> None:
        super().__init__(changed)
        self._app_id, self._app_secret = f"dingsim{secrets.token_hex(6)}", secrets.token_urlsafe(32)

    def credential(self) -> dict[str, str]:
        return {
            "app_id": self._app_id,
            "app_secret": self._app_secret,
            "robot_code": self._app_id,
            "card_template_id": "simulated.schema",
        }

    def message(self, text: str, image: bytes = b"") -> Callback:
        self.image = image
        now_ms = int(time.time() * 1000)
        body = {
            "conversationId": f"cid{secrets.token_hex(8)}==",
            "conversationType": "1",
            "chatbotCorpId": "dingsimulated",
            "chatbotUserId": "$:LWCP_v1:$bot",
            "senderId": "$:LWCP_v1:$person",
            "senderStaffId": "simulated",
            "senderNick": "Simulated",
            "msgId": f"msg{secrets.token_hex(8)}==",
            "createAt": now_ms,
            "sessionWebhook": f"{self.base_url}/robot/sendBySession?session={secrets.token_hex(16)}",
            "sessionWebhookExpiredTime": now_ms + 5_400_000,
            "robotCode": self._app_id,
            **_content(text, has_image=bool(image)),
        }
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "timestamp": str(now_ms),
            "sign": callback_signature(str(now_ms), self._app_secret),
        }
        return Callback(headers, json.dumps(body, ensure_ascii=False).encode())

    def answer(self, method: str, path: str, body: Json) -> Json | bytes:
        if matches("/v1.0/robot/messageFiles/download", path):
            return {"downloadUrl": f"{self.base_url}{FILES}?Expires=1"}
        if matches(FILES, path):
            return self.image
        if matches("/v1.0/oauth2/accessToken", path):
            return {"accessToken": "simulated", "expireIn": 7200}
        if matches("/v1.0/card/instances/createAndDeliver", path):
            spaces = [{"spaceType": "IM_ROBOT", "spaceId": "simulated", "success": True, "carrierId": "1"}]
            return {"success": True, "result": {"outTrackId": body.get("outTrackId"), "deliverResults": spaces}}
        if matches("/v1.0/card/streaming", path):
            self.show("card", body.get("content", ""), is_complete=bool(body.get("isFinalize")))
            return {"success": True, "result": True}
        if matches("/robot/sendBySession", path):
            self.show(secrets.token_hex(4), _text_of(body), is_complete=True)
            return {"errcode": 0, "errmsg": "ok"}
        if matches(r"/v1\.0/robot/(oToMessages/batchSend|groupMessages/send)", path):
            self.show(secrets.token_hex(4), _text_of(plain(body.get("msgParam", "{}"))), is_complete=True)
            return {"processQueryKey": secrets.token_hex(8), "invalidStaffIdList": [], "flowControlledStaffIdList": []}
        return {"success": True, "result": True}


def _content(text: str, *, has_image: bool) -> Json:
    """A picture with words is a rich text, as people's own client sends it."""
    picture = {"type": "picture", "downloadCode": "simulated", "pictureDownloadCode": "simulated"}
    if not has_image:
        return {"msgtype": "text", "text": {"content": text}}
    if not text:
        return {"msgtype": "picture", "content": picture}
    return {"msgtype": "richText", "content": {"richText": [picture, {"text": text}]}}


def _text_of(body: Json) -> str:
    """The text of a webhook message or of a msgParam."""
    inner = body.get("markdown") or body.get("text") or body
    return str(inner if isinstance(inner, str) else inner.get("text") or inner.get("content") or "")
