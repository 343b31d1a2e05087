"""Plays Feishu for `manage.py simulate`: one app, one person, one direct chat."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from integrations.feishu.crypto import encrypt, event_signature
from integrations.loopback import Callback, Json, PlatformSimulator, matches, plain

API, IMAGE_KEY = "/open-apis", "img_v3_simulated"


class FeishuSimulator(PlatformSimulator):
    def __init__(self, changed: Any) -> None:
        super().__init__(changed)
        self._secrets = {
            "app_id": f"cli_sim{secrets.token_hex(6)}",
            "app_secret": secrets.token_urlsafe(24),
            "verification_token": secrets.token_urlsafe(24),
            "encrypt_key": secrets.token_urlsafe(24),
        }

    def credential(self) -> dict[str, str]:
        return self._secrets

    def message(self, text: str, image: bytes = b"") -> Callback:
        self.image = image
        event = json.dumps(self._event(*_content(text, has_image=bool(image))), ensure_ascii=False)
        sealed = encrypt(event.encode(), self._secrets["encrypt_key"])
        body = json.dumps({"encrypt": sealed}).encode()
        timestamp, nonce = str(int(time.time())), secrets.token_hex(8)
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": event_signature(timestamp, nonce, self._secrets["encrypt_key"], body),
        }
        return Callback(headers, body)

    def _event(self, message_type: str, content: Json) -> Json:
        now_ms = str(int(time.time() * 1000))
        person = {"open_id": "ou_simulated", "union_id": "on_simulated", "user_id": None}
        return {
            "schema": "2.0",
            "header": {
                "event_id": secrets.token_hex(16),
                "token": self._secrets["verification_token"],
                "create_time": now_ms,
                "event_type": "im.message.receive_v1",
                "tenant_key": "simulated",
                "app_id": self._secrets["app_id"],
            },
            "event": {
                "sender": {"sender_id": person, "sender_type": "user", "tenant_key": "simulated"},
                "message": {
                    "message_id": f"om_{secrets.token_hex(12)}",
                    "create_time": now_ms,
                    "chat_id": f"oc_{secrets.token_hex(12)}",
                    "chat_type": "p2p",
                    "message_type": message_type,
                    "content": json.dumps(content, ensure_ascii=False),
                },
            },
        }

    def answer(self, method: str, path: str, body: Json) -> Json | bytes:
        if matches(rf"{API}/im/v1/messages/\w+/resources/{IMAGE_KEY}", path):
            return self.image
        if matches(f"{API}/auth/v3/tenant_access_token/internal", path):
            return {"code": 0, "msg": "ok", "tenant_access_token": "t-simulated", "expire": 7200}
        if matches(f"{API}/bot/v3/info", path):
            return {"code": 0, "msg": "ok", "bot": {"open_id": "ou_bot", "app_name": "Simulated", "activate_status": 2}}
        if matches(f"{API}/cardkit/v1/cards", path):
            return self._created(plain(body.get("data", "{}")))
        if matches(rf"{API}/cardkit/v1/cards/[\w-]+/elements/[\w-]+/content", path):
            self.show("card", body.get("content", ""), is_complete=False)
        elif matches(rf"{API}/cardkit/v1/cards/[\w-]+/settings", path):
            is_streaming = plain(body.get("settings", "{}")).get("config", {}).get("streaming_mode", False)
            self.show("card", self.seen.texts.get("card", ""), is_complete=not is_streaming)
        elif matches(rf"{API}/im/v1/messages/\w+/reactions", path):
            return _ok(reaction_id="reaction-1")
        elif matches(rf"{API}/im/v1/messages(/\w+/reply)?", path) and method == "POST":
            return self._sent(body)
        return _ok()

    def _created(self, card: Json) -> Json:
        """A card entity already holds its first text; one that is not streaming is complete."""
        elements = card.get("body", {}).get("elements", [])
        text = "\n".join(words for element in elements if (words := str(element.get("content", ""))))
        is_streaming = card.get("config", {}).get("streaming_mode", False)
        self.show("card", text, is_complete=not is_streaming)
        return _ok(card_id="card-1")

    def _sent(self, body: Json) -> Json:
        message_id = f"om_{secrets.token_hex(12)}"
        if body.get("msg_type") != "interactive":
            self.show(message_id, _text_of(plain(body.get("content", "{}"))), is_complete=True)
        return _ok(message_id=message_id)


def _content(text: str, *, has_image: bool) -> tuple[str, Json]:
    """A picture with words is a rich text, as people's own client sends it."""
    if not has_image:
        return "text", {"text": text}
    if not text:
        return "image", {"image_key": IMAGE_KEY}
    return "post", {"title": "", "content": [[{"tag": "img", "image_key": IMAGE_KEY}], [{"tag": "text", "text": text}]]}


def _ok(**data: str) -> Json:
    return {"code": 0, "msg": "success", "data": data}


def _text_of(content: Json) -> str:
    """The text of a text message or of a post."""
    if "text" in content:
        return str(content["text"])
    rows = [row for locale in content.values() if isinstance(locale, dict) for row in locale.get("content", [])]
    return "\n".join("".join(str(element.get("text", "")) for element in row) for row in rows)
