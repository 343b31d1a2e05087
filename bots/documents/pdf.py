"""PDF: the text of its pages. Scanned pages have none."""

from __future__ import annotations

import io
import logging

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from bots.documents.results import MOST_CHARS, MOST_PARTS, Read, Unreadable, bounded

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells of every oddity of a file


def read(data: bytes) -> Read:
    try:
        reader = PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):  # many are locked against changes only
            raise Unreadable("encrypted")
        return bounded(_pages(reader))
    except DependencyError:
        raise Unreadable("encrypted") from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise Unreadable("broken") from None  # what a damaged file makes of a tolerant parser


def _pages(reader: PdfReader) -> list[str]:
    found, length = [], 0
    for page in reader.pages[:MOST_PARTS]:
        text = page.extract_text()
        found.append(text)
        length += len(text)
        if length > MOST_CHARS:
            break
    return found
