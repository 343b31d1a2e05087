"""The people: each chat sends its messages in order, signed as its platform signs, until each is taken with a 200."""

from __future__ import annotations

import http.client
import json
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from integrations.dingtalk.crypto import callback_signature
from integrations.feishu.crypto import encrypt, event_signature
from tests.chaos.judge import Asked

KINDS = ("feishu-text", "feishu-card", "dingtalk-plain", "dingtalk-card")
THREADS = 12
TIMEOUT_S = 8.0
AGAIN_AFTER_S = 0.25
WORDS = ("please", "tell", "me", "what", "you", "know", "of", "the", "weather", "in", "the", "hills", "today")


@dataclass(slots=True)
class Message:
    tag: str
    chat: str
    kind: str
    text: str
    began_s: float = 0.0
    accepted_s: float | None = None

    @property
    def asked(self) -> Asked:
        return Asked(self.tag, self.chat, self.kind, f"echo: {self.text}", self.began_s, self.accepted_s)


@dataclass(frozen=True, slots=True)
class Callback:
    path: str
    headers: dict[str, str]
    body: bytes


class Platform:
    """Makes the callbacks of all four kinds of chat."""

    def __init__(self, keys: Mapping[str, str], secret: str, base_url: str) -> None:
        self._keys, self._secret, self._base_url = keys, secret, base_url

    def callback(self, message: Message) -> Callback:
        platform = message.kind.partition("-")[0]
        headers, body = (self._feishu if platform == "feishu" else self._dingtalk)(message)
        headers["Content-Type"] = "application/json"
        return Callback(f"/webhooks/{platform}/{self._keys[message.kind]}/", headers, body)

    def _feishu(self, message: Message) -> tuple[dict[str, str], bytes]:
        sealed = encrypt(json.dumps(self._feishu_event(message)).encode(), self._secret)
        body = json.dumps({"encrypt": sealed}).encode()
        timestamp, nonce = str(int(time.time())), secrets.token_hex(8)
        signature = event_signature(timestamp, nonce, self._secret, body)
        names = ("X-Lark-Request-Timestamp", "X-Lark-Request-Nonce", "X-Lark-Signature")
        return dict(zip(names, (timestamp, nonce, signature), strict=True)), body

    def _feishu_event(self, message: Message) -> dict[str, object]:
        now_ms = str(int(time.time() * 1000))
        said = {
            "message_id": f"om_{message.tag}",
            "create_time": now_ms,
            "chat_id": f"oc_{message.chat}",
            "chat_type": "p2p",
            "message_type": "text",
            "content": json.dumps({"text": message.text}),
        }
        sender = {"sender_id": {"open_id": f"ou_{message.chat}"}, "sender_type": "user", "tenant_key": "t"}
        header = {
            "event_id": secrets.token_hex(8),
            "token": self._secret,
            "create_time": now_ms,
            "event_type": "im.message.receive_v1",
            "tenant_key": "t",
            "app_id": message.kind,
        }
        return {"schema": "2.0", "header": header, "event": {"sender": sender, "message": said}}

    def _dingtalk(self, message: Message) -> tuple[dict[str, str], bytes]:
        body = self.dingtalk_message(message, message.kind)
        timestamp_ms = str(body["createAt"])
        signature = callback_signature(timestamp_ms, self._secret)
        return {"timestamp": timestamp_ms, "sign": signature}, json.dumps(body).encode()

    def dingtalk_message(self, message: Message, robot: str) -> dict[str, Any]:
        """Every second chat has no session address any more, so its answers go by the robot's API."""
        now_ms = int(time.time() * 1000)
        is_session_alive = int(message.chat[1:]) // len(KINDS) % 2 == 0
        return {
            "conversationId": f"cid_{message.chat}",
            "conversationType": "1",
            "chatbotCorpId": "corp",
            "senderId": f"$:{message.chat}",
            "senderStaffId": f"staff_{message.chat}",
            "msgId": f"msg_{message.tag}",
            "createAt": now_ms,
            "sessionWebhook": f"{self._base_url}/robot/sendBySession?session={message.chat}",
            "sessionWebhookExpiredTime": now_ms + 5_400_000 if is_session_alive else now_ms - 1,
            "robotCode": robot,
            "msgtype": "text",
            "text": {"content": message.text},
        }


class Sender:
    """``allowed`` says how many messages may have been begun by now: the pace, and that kills never fall behind."""

    timeout_s = TIMEOUT_S

    def __init__(
        self, platform: Platform, port: int, messages: int, conversations: int, chance: random.Random, repeats: float
    ) -> None:
        self._platform, self._port, self._chance, self._repeats = platform, port, chance, repeats
        self.messages = [_message(number, conversations) for number in range(messages)]
        self.begun = self.repeated = self.repeated_after_restart = 0
        self.refusals: list[str] = []  # of each callback that got no 200: what it got
        self._turns: queue.SimpleQueue[tuple[Message, ...]] = queue.SimpleQueue()
        for chat in range(min(conversations, messages)):
            self._turns.put(tuple(self.messages[chat::conversations]))
        self._left = messages
        self._guard = threading.Lock()
        self._is_stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, allowed: Callable[[], float]) -> None:
        self._threads = [threading.Thread(target=self._run, args=(allowed,), daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    @property
    def is_done(self) -> bool:
        return self._left == 0

    def stop(self) -> None:
        self._is_stopped.set()
        for thread in self._threads:
            thread.join(self.timeout_s + 2)

    def repeat_after_restart(self, count: int) -> None:
        """Deliver some messages again that a forerunner of the present process took."""
        taken = [message for message in self.messages[: self.begun] if message.accepted_s is not None]
        repeated = self._chance.sample(taken, min(count, len(taken)))
        self.repeated_after_restart += len(repeated)
        for message in repeated:
            self._turns.put((message,))

    def _run(self, allowed: Callable[[], float]) -> None:
        """Take a chat, send its next message, put the chat back: so no chat sends two at once."""
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self.timeout_s)
        while not self._is_stopped.is_set():
            try:
                message, *later = self._turns.get(timeout=0.1)
            except queue.Empty:
                continue
            if message.accepted_s is None:
                self._send_first(line, message, allowed)
            else:
                self._deliver(line, message)
            if later:
                self._turns.put(tuple(later))
        line.close()

    def _send_first(self, line: http.client.HTTPConnection, message: Message, allowed: Callable[[], float]) -> None:
        while self.begun >= allowed() and not self._is_stopped.is_set():
            time.sleep(0.02)
        with self._guard:
            self.begun += 1
            is_repeated = self._chance.random() < self._repeats
            self.repeated += is_repeated
        message.began_s = time.monotonic()
        if self._deliver(line, message):
            message.accepted_s = time.monotonic()
        if is_repeated:
            self._deliver(line, message)
        with self._guard:
            self._left -= 1

    def _deliver(self, line: http.client.HTTPConnection, message: Message) -> bool:
        """As the platforms do: again and again, under the same id, until a 200 comes."""
        while not self._is_stopped.is_set():
            if self._posted(line, message):
                return True
            time.sleep(AGAIN_AFTER_S)
        return False

    def _posted(self, line: http.client.HTTPConnection, message: Message) -> bool:
        callback = self._platform.callback(message)
        try:
            line.request("POST", callback.path, callback.body, callback.headers)
            answer = line.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            line.close()
            self.refusals.append(f"{message.tag}: {error!r}")
            return False
        if answer.status != 200:
            self.refusals.append(f"{message.tag}: {answer.status}")
        return answer.status == 200


def _message(number: int, conversations: int) -> Message:
    chat = number % conversations
    tag = f"c{chat}m{number // conversations}"
    words = " ".join(WORDS[: 3 + number % (len(WORDS) - 3)])
    return Message(tag, f"c{chat}", KINDS[chat % len(KINDS)], f"{tag} {words}")
