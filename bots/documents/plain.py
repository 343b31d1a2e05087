"""Text files: txt, md, csv, and whatever else is text whatever its name says."""

from __future__ import annotations

import codecs
import re

from bots.documents.results import Read, Unreadable, bounded

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read(data: bytes) -> Read:
    """Raises Unreadable."""
    return bounded([decoded(data)])


def decoded(data: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or the encoding of older Chinese programs. Raises Unreadable for what is no text."""
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")
    for encoding in [marked] if marked else ["utf-8", "gb18030"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _CONTROL.search(text):
            return text
    raise Unreadable("unknown_kind")
