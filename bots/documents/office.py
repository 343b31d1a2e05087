"""Word and Excel files: paragraphs and tables, and the cells of sheets, as lines of text."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import docx
import openpyxl
from docx.table import Table

from bots.documents.results import MOST_CHARS, MOST_PARTS, MOST_UNPACKED_BYTES, Read, Unreadable, bounded

WORD, SHEETS = "word/document.xml", "xl/workbook.xml"


def kind(data: bytes) -> str:
    """``docx`` or ``xlsx``. Raises Unreadable for an archive that is neither, or that unpacks to too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError):
        raise Unreadable("broken") from None
    if len(entries) > MOST_PARTS or sum(entry.file_size for entry in entries) > MOST_UNPACKED_BYTES:
        raise Unreadable("too_large")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unreadable("encrypted")
    names = {entry.filename for entry in entries}
    if WORD in names:
        return "docx"
    if SHEETS in names:
        return "xlsx"
    raise Unreadable("unknown_kind")


def read_word(data: bytes) -> Read:
    return bounded(_bounded(_word_lines(docx.Document(io.BytesIO(data)))))


def read_sheets(data: bytes) -> Read:
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    return bounded(_bounded(_sheet_lines(book)))


def _word_lines(document: Any) -> Iterator[str]:
    for part in document.iter_inner_content():
        if isinstance(part, Table):
            yield from (_row(cell.text for cell in row.cells) for row in part.rows)
        else:
            yield part.text


def _sheet_lines(book: Any) -> Iterator[str]:
    for sheet in book.worksheets:
        yield f"# {sheet.title}"
        for number, values in enumerate(sheet.iter_rows(values_only=True)):
            if number >= MOST_PARTS:
                break
            line = _row("" if value is None else str(value) for value in values)
            if line:
                yield line


def _row(cells: Iterable[str]) -> str:
    texts = [" ".join(cell.split()) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()  # sheets are padded to their widest row
    return " | ".join(texts)


def _bounded(lines: Iterator[str]) -> list[str]:
    """No more than anybody will read: a sheet may have a million rows."""
    found, length = [], 0
    for line in lines:
        found.append(line)
        length += len(line) + 1
        if length > MOST_CHARS:
            break
    return found
