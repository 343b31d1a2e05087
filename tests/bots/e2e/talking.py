"""A person who writes to a bot of a running site on a fake Feishu."""

from __future__ import annotations

import json
import re
import secrets
import time

import httpx

from integrations.feishu.crypto import encrypt, event_signature
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.servers.site import Site, create, random_name


class Talk:
    """One Feishu app joined to a bot of the site, and one person in a direct chat with it."""

    def __init__(self, site: Site, feishu: FakeFeishu, **bot: object) -> None:
        self.site, self.feishu = site, feishu
        self.slug, self.secret = random_name(), secrets.token_urlsafe(24)
        feishu.app_id = f"cli_{random_name()}"
        with site.rest() as rest:
            create(rest, "bots/", slug=self.slug, name=self.slug, model="remote", **bot)
            credential = create(
                rest,
                "credentials/",
                name=self.slug,
                platform="feishu",
                app_id=feishu.app_id,
                app_secret=feishu.app_secret,
                verification_token=self.secret,
                encrypt_key=self.secret,
                base_url=feishu.url,
            )
            self.endpoint = create(rest, "endpoints/", bot=self.slug, credential=credential["id"], mode="webhook")

    def say(self, text: str, message_id: str | None = None) -> httpx.Response:
        return self._post(_event(self.feishu.app_id, self.secret, text, message_id or f"om_{secrets.token_hex(8)}"))

    def press(self, value: object) -> httpx.Response:
        event = {"operator": {"open_id": "ou_e2e"}, "action": {"value": value}, "context": {"open_chat_id": "oc_e2e"}}
        header = _header(self.feishu.app_id, self.secret, "card.action.trigger")
        return self._post({"schema": "2.0", "header": header, "event": event})

    def stop_value(self) -> object:
        """What the stop button of the growing card holds; None while there is none."""
        shown = json.dumps([card.data for card in self.feishu.cards.values() if card.is_sent])
        found = re.search(r'\{"clawdbot": "(stop\.[^"]+)"\}', shown)
        return {"clawdbot": found[1]} if found else None

    def _post(self, event: dict[str, object]) -> httpx.Response:
        body = json.dumps({"encrypt": encrypt(json.dumps(event).encode(), self.secret)}).encode()
        timestamp, nonce = str(int(time.time())), secrets.token_hex(8)
        headers = {
            "Content-Type": "application/json",
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": event_signature(timestamp, nonce, self.secret, body),
        }
        path = f"/webhooks/feishu/{self.endpoint['key']}/"
        return httpx.post(f"{self.site.url}{path}", content=body, headers=headers, trust_env=False, timeout=10)

    def texts(self) -> list[str]:
        return list(self.feishu.texts)


def _event(app_id: str, token: str, text: str, message_id: str) -> dict[str, object]:
    message = {
        "message_id": message_id,
        "create_time": str(int(time.time() * 1000)),
        "chat_id": "oc_e2e",
        "chat_type": "p2p",
        "message_type": "text",
        "content": json.dumps({"text": text}),
    }
    sender = {"sender_id": {"open_id": "ou_e2e", "union_id": "on_e2e"}, "sender_type": "user", "tenant_key": "t"}
    header = _header(app_id, token, "im.message.receive_v1")
    return {"schema": "2.0", "header": header, "event": {"sender": sender, "message": message}}


def _header(app_id: str, token: str, event_type: str) -> dict[str, object]:
    return {
        "event_id": secrets.token_hex(8),
        "token": token,
        "create_time": str(int(time.time() * 1000)),
        "event_type": event_type,
        "tenant_key": "t",
        "app_id": app_id,
    }
