"""What the fake Feishu can be asked for: messages of people, their files, names and departments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


class Refusal(Exception):
    def __init__(self, code: int, msg: str = "no", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.msg, self.status = code, msg, status


@dataclass(frozen=True)
class File:
    """An answer that is no JSON object of the API."""

    data: bytes
    media_type: str = "application/octet-stream"


class Lookups:
    """``items`` by message id: the message, then what is forwarded in it. ``files`` by message, key and type."""

    def __init__(self) -> None:
        self.items: dict[str, list[Json]] = {}
        self.files: dict[tuple[str, str, str], File] = {}
        self.names: dict[str, str] = {}
        self.departments: dict[str, list[str]] = {}  # of people, as open_department_id
        self.parents: dict[str, str] = {}
        self.custom_ids: dict[str, str] = {}

    def says(self, message_id: str, content: Json, kind: str = "text", sender: str = "ou_ben", **fields: Any) -> Json:
        """Somebody's message, as the API shows it."""
        is_bot = sender.startswith("cli_")
        item = {
            "message_id": message_id,
            "chat_id": "oc_1",
            "msg_type": kind,
            "create_time": f"17900000{len(self.items):05}",
            "deleted": False,
            "sender": {
                "id": sender,
                "id_type": "app_id" if is_bot else "open_id",
                "sender_type": "app" if is_bot else "user",
            },
            "body": {"content": json.dumps(content)},
            **fields,
        }
        self.items[message_id] = [item]
        return item

    def answer(self, parts: list[str], query: dict[str, list[str]]) -> Any:
        match parts:
            case ["im", "v1", "messages", message_id]:
                if message_id not in self.items:
                    raise Refusal(231003, "The message is not found, maybe deleted.")
                return _data({"items": self.items[message_id]})
            case ["im", "v1", "messages", message_id, "resources", key]:
                if (message_id, key, query["type"][0]) not in self.files:
                    raise Refusal(234003, "File not in msg.")
                return self.files[message_id, key, query["type"][0]]
            case ["contact", "v3", "users", "batch"]:
                assert query["user_id_type"] == ["open_id"]
                known = [one for one in query["user_ids"] if one in self.names]
                return _data({"items": [{"open_id": one, "name": self.names[one]} for one in known]})
            case ["contact", "v3", "users", user_id]:
                if user_id not in self.departments:
                    raise Refusal(41050, "no user authority error")
                assert (query["user_id_type"], query["department_id_type"]) == (["open_id"], ["open_department_id"])
                return _data({"user": {"open_id": user_id, "department_ids": self.departments[user_id]}})
            case ["contact", "v3", "departments", "parent"]:
                assert query["department_id_type"] == ["open_department_id"]
                return _data({"items": self._above(query["department_id"][0])})
            case ["contact", "v3", "departments", department_id]:
                return _data({"department": self._department(department_id)})
        raise Refusal(99991404, f"404 page not found: {parts}", 404)

    def _department(self, department_id: str) -> Json:
        return {"open_department_id": department_id, "department_id": self.custom_ids[department_id]}

    def _above(self, department_id: str) -> list[Json]:
        parent = self.parents.get(department_id)
        return [self._department(parent), *self._above(parent)] if parent else []


def _data(data: Json) -> Json:
    return {"code": 0, "msg": "success", "data": data}
