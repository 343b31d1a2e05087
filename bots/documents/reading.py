"""One file, by what it is."""

from __future__ import annotations

from bots.documents import office, pdf, pictures, plain
from bots.documents.kinds import kind_of
from bots.documents.results import Read, Unreadable

LOCKED = "EncryptedPackage".encode("utf-16-le")  # how Office keeps a file with a password


def read(data: bytes) -> Read:
    """Never raises for a bad file: the problem is in what it returns."""
    try:
        return _read(data)
    except Unreadable as reason:
        return Read(problem=reason.problem)
    except (MemoryError, RecursionError):
        return Read(problem="too_large")


def _read(data: bytes) -> Read:
    match kind_of(data):
        case "pdf":
            return pdf.read(data)
        case "archive":
            return _office(data)
        case "old":
            raise Unreadable("encrypted" if LOCKED in data else "old_format")
        case "picture":
            return pictures.read(data)
        case _:
            return plain.read(data)


def _office(data: bytes) -> Read:
    read_kind = office.read_word if office.kind(data) == "docx" else office.read_sheets
    try:
        return read_kind(data)
    except (Unreadable, MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001  (a damaged archive makes these parsers raise whatever their XML library raises)
        raise Unreadable("broken") from None
