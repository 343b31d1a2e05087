"""The audit log as CSV and as JSON lines, streamed. One shape for the admin, the REST API and the command line."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from monitoring import audit, verifier
from monitoring.context import Context, bind, current
from monitoring.models import AuditLog
from monitoring.text import json_text, printable

COLUMNS: Final = verifier.COLUMNS
CHUNK_ROWS: Final = 500
# A spreadsheet takes a cell that starts so for a formula; the wide forms are turned into these by some input methods.
FORMULA_STARTS: Final = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "|", "%")


def json_lines(entries: Iterable[AuditLog]) -> Iterator[str]:
    for entry in entries:
        row = {column: getattr(entry, column) for column in COLUMNS}
        yield json_text(row) + "\n"


def csv_lines(entries: Iterable[AuditLog]) -> Iterator[str]:
    writer = csv.writer(Line(), lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    yield "\ufeff" + writer.writerow(COLUMNS)  # the mark makes Excel read UTF-8
    for entry in entries:
        yield writer.writerow([cell(getattr(entry, column)) for column in COLUMNS])


def cell(value: Any) -> str:
    """Return one line of text that no spreadsheet takes for a formula."""
    if isinstance(value, dict):
        value = json_text(value)
    text = printable(value.isoformat() if hasattr(value, "isoformat") else str(value))
    return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) else text


FORMATS: Final[dict[str, tuple[str, Callable[[Iterable[AuditLog]], Iterator[str]]]]] = {
    "csv": ("text/csv; charset=utf-8", csv_lines),
    "jsonl": ("application/x-ndjson", json_lines),
}


def response(request: HttpRequest, entries: QuerySet[AuditLog], form: str) -> StreamingHttpResponse:
    """Stream the entries as a download. ``form`` is a key of FORMATS.

    The log tells who takes how many before anything leaves, and the SHA-256 of the file when all of it has.
    """
    content_type, lines = FORMATS[form]
    taken = {"format": {"before": None, "after": form}, "entries": {"before": None, "after": entries.count()}}
    audit.record("auditlog.exported", target_label=form, changes=taken)
    chunks = _digested(_joined(lines(entries.iterator(chunk_size=CHUNK_ROWS))), form, current())
    # A plain iterator would be read to its end first under ASGI.
    streamed = _in_thread(chunks) if isinstance(request, ASGIRequest) else chunks
    name = f"audit-{timezone.now():%Y%m%d-%H%M%S}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(streamed, content_type=content_type, headers=headers)


class Line:
    """A file whose write returns the text: csv.writer hands it on."""

    def write(self, text: str) -> str:
        return text


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while chunk := "".join(islice(lines, CHUNK_ROWS)):
        yield chunk


def _digested(chunks: Iterator[str], form: str, who: Context) -> Iterator[str]:
    """The stream outlives its request: who asked is remembered."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.encode("utf-8", "surrogatepass"))
        yield chunk
    with bind(actor=who.actor, address=who.address, request_id=who.request_id):
        audit.record("auditlog.export_ended", target_label=form, changes=audit.diff({}, {"sha256": digest.hexdigest()}))


async def _in_thread(chunks: Iterator[str]) -> AsyncIterator[str]:
    while (chunk := await sync_to_async(lambda: next(chunks, None))()) is not None:
        yield chunk
