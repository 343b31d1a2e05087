"""JSON of a bounded size: what is too large, or nested too deeply, is an error of the caller and none of ours."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any, ClassVar, Final

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

TOO_DEEP: Final = _("The JSON is nested too deeply.")


class TooLarge(APIException):
    status_code = 413
    default_code = "too_large"
    default_detail = _("The request is too large.")


class BoundedJSONParser(JSONParser):
    most_bytes: ClassVar[int] = 1024 * 1024
    most_depth: ClassVar[int] = 64

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        raw = stream.read(self.most_bytes + 1)
        if len(raw) > self.most_bytes:
            raise TooLarge(_("A request may have at most %(most)s bytes here.") % {"most": self.most_bytes})
        try:
            parsed: dict[str, Any] = super().parse(BytesIO(raw), media_type, parser_context)
        except RecursionError:
            raise ParseError(TOO_DEEP) from None
        if raw.count(b"{") + raw.count(b"[") > self.most_depth and is_deeper(parsed, self.most_depth):
            raise ParseError(TOO_DEEP)
        return parsed


def is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects stand in each other more than ``depth`` times; level by level, without recursion."""
    level = [value]
    for _level in range(depth + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return False
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one)]
    return True
