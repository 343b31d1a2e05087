"""The files that came with a message: fetched from the platform and read once, then kept.

Runs in the worker that answers, before the model is asked. What cannot be read is kept too, with its reason.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from bots.addressing import credentials_of
from bots.documents import apart
from bots.models import Message, MessageFile
from bots.text import storable
from integrations.errors import PlatformError, TooLarge
from integrations.registry import adapter_for
from integrations.values import Attachment

logger = logging.getLogger(__name__)
Kind = MessageFile.Kind
MOST_FILES: Final = 10  # of one message
THERE_IS_MORE: Final = "[The file goes on. The rest was not read.]"
MOST_BYTES: Final = 20 * 1024 * 1024
QUOTED_FROM: Final = 50  # positions of the files of a quoted message
MAY_WORK_LATER: Final = ("gone", "too_slow")  # when an admin lets the question be answered again
IMAGES_KEPT_FOR = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Given:
    """A file as the platform told of it, and its place among those of its message."""

    position: int
    attachment: Attachment

    @property
    def is_readable(self) -> bool:
        return self.attachment.kind in ("image", "file")


def given(message: Message) -> list[Given]:
    """Those of the message, then those of the message it quotes. Without any I/O."""
    quoted = message.details.get("quoted") or {}
    own = enumerate(message.details.get("attachments", ())[:MOST_FILES])
    others = enumerate(quoted.get("attachments", ())[:MOST_FILES], start=QUOTED_FROM)
    return [Given(position, _attachment(values)) for position, values in (*own, *others)]


def read(message: Message, wanted: list[Given], *, is_last_try: bool) -> dict[int, MessageFile]:
    """What is in each of these, by position. Raises PlatformError where trying again may help, and may be done."""
    if not wanted:
        return {}
    found = {row.position: row for row in MessageFile.objects.filter(message=message)}
    for one in wanted:
        if one.position not in found or found[one.position].problem in MAY_WORK_LATER:
            found[one.position] = _read(message, one, is_last_try=is_last_try)
    return found


def forget_images() -> None:
    """Only the latest turns need them."""
    old = MessageFile.objects.filter(image__isnull=False, created_at__lt=timezone.now() - IMAGES_KEPT_FOR)
    old.update(image=None)


def _attachment(values: Mapping[str, Any]) -> Attachment:
    return Attachment(values["kind"], values["key"], values.get("name", ""), values.get("size_bytes", 0))


def _read(message: Message, one: Given, *, is_last_try: bool) -> MessageFile:
    values = _fetched_and_read(message, one.attachment, is_last_try=is_last_try)
    row, _ = MessageFile.objects.update_or_create(message=message, position=one.position, defaults=values)
    return row


def _fetched_and_read(message: Message, attachment: Attachment, *, is_last_try: bool) -> dict[str, Any]:
    kind = Kind.IMAGE if attachment.kind == "image" else Kind.DOCUMENT
    values: dict[str, Any] = {"kind": kind, "name": storable(attachment.name)[:200]}
    if attachment.size_bytes > MOST_BYTES:
        return values | {"problem": "too_large"}
    credentials, adapter = credentials_of(message), adapter_for(message.platform)
    try:
        fetched = adapter.fetch_attachment(credentials, attachment, most_bytes=MOST_BYTES)
    except TooLarge:
        return values | {"problem": "too_large"}
    except PlatformError as error:
        if not (error.permanent or is_last_try):
            raise
        logger.warning("a file could not be fetched", extra={"message_id": str(message.pk), "reason": str(error)})
        return values | {"problem": "gone"}
    values["name"] = values["name"] or storable(fetched.name)[:200]
    found = apart.read(fetched.data)
    if found.image:
        return values | {"kind": Kind.IMAGE, "image": found.image}
    text = f"{found.text}\n{THERE_IS_MORE}" if found.is_cut else found.text
    return values | {"text": storable(text), "problem": found.problem}
