"""What the bot looks up on Feishu: files, messages that are quoted or forwarded, people's names and departments.

All methods raise FeishuError and HeldBack. Source: PROTOCOL.md, "Looking up".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

from integrations.errors import TooLarge
from integrations.feishu import refusals
from integrations.feishu.calls import FeishuCalls, in_path
from integrations.feishu.content import Resource
from integrations.feishu.fields import Json, list_of, object_of, text_of
from integrations.feishu.refusals import FeishuError
from integrations.values import Fetched

MOST_NAMES: Final = 50  # of one call
MOST_DEPARTMENTS: Final = 10  # of one person


class FeishuReader(FeishuCalls):
    """The reading calls of one app."""

    def messages(self, message_id: str) -> list[Json]:
        """A message, and what is forwarded in it; empty where it is gone, or cannot be seen by the bot."""
        try:
            data = self._read("message", f"/im/v1/messages/{in_path(message_id)}")
        except FeishuError as error:
            if error.code not in refusals.MESSAGE_UNSEEN:
                raise
            return []
        return [object_of(item) for item in list_of(data.get("items"))]

    def names(self, open_ids: Iterable[str]) -> dict[str, str]:
        """Names by open_id, of those that the app may see. Without the scope Feishu leaves the names out."""
        wanted = list(dict.fromkeys(open_ids))[:MOST_NAMES]
        if not wanted:
            return {}
        query = urlencode([("user_id_type", "open_id"), *(("user_ids", one) for one in wanted)])
        people = list_of(self._read("names", f"/contact/v3/users/batch?{query}").get("items"))
        return {text_of(one.get("open_id")): text_of(one.get("name")) for one in map(object_of, people)}

    def departments_of(self, open_id: str) -> frozenset[str]:
        """The ids of a person's departments and of all above them, in both forms that Feishu knows."""
        query = "user_id_type=open_id&department_id_type=open_department_id"
        user = object_of(self._read("user", f"/contact/v3/users/{in_path(open_id)}?{query}").get("user"))
        own = [text_of(one) for one in list_of(user.get("department_ids"))[:MOST_DEPARTMENTS]]
        return frozenset().union(*(self._department(one) for one in own if one))

    def _department(self, department_id: str) -> set[str]:
        """Both ids of it and of those above; its own one alone where the app may not read departments."""
        kind = "department_id_type=open_department_id"
        query = urlencode({"department_id": department_id, "page_size": 50})
        own = self._told("department", f"/contact/v3/departments/{in_path(department_id)}?{kind}").get("department")
        above = self._told("departments above", f"/contact/v3/departments/parent?{kind}&{query}").get("items")
        return {department_id, *_both_ids(own), *(one for item in list_of(above) for one in _both_ids(item))}

    def _told(self, name: str, path: str) -> Json:
        try:
            return self._read(name, path)
        except FeishuError as error:
            if not error.permanent:
                raise
            return {}

    def file(self, resource: Resource, most_bytes: int) -> Fetched:
        """A file that a person sent. Raises TooLarge, too."""
        path = f"/im/v1/messages/{in_path(resource.message_id)}/resources/{in_path(resource.file_key)}"
        try:
            return self._download("file", f"{path}?type={resource.type}", most_bytes)
        except FeishuError as error:
            if error.code in refusals.FILE_TOO_LARGE:
                raise TooLarge(str(error)) from error
            raise


def _both_ids(department: Any) -> set[str]:
    ids = (text_of(object_of(department).get(name)) for name in ("open_department_id", "department_id"))
    return {one for one in ids if one}
