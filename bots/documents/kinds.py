"""What a file is: its first bytes count, not its name."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["pdf", "archive", "old", "picture", "text"]
PDF_HEAD_BYTES: Final = 1024  # the mark may stand a little later
PICTURES: Final = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def kind_of(data: bytes) -> Kind:
    """``text`` is all that looks like nothing else."""
    if b"%PDF-" in data[:PDF_HEAD_BYTES]:
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        return "archive"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return "old"
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return "picture" if is_webp or data.startswith(PICTURES) else "text"
