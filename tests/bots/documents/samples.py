"""Files of every kind, made by the libraries that people's programs are like."""

from __future__ import annotations

import io
import zipfile

import docx
import openpyxl
from PIL import Image
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

CONTENT_TYPES = "[Content_Types].xml"


def word(*lines: str, cells: tuple[str, ...] = ()) -> bytes:
    document = docx.Document()
    for line in lines:
        document.add_paragraph(line)
    if cells:
        table = document.add_table(rows=1, cols=len(cells))
        for cell, text in zip(table.rows[0].cells, cells, strict=True):
            cell.text = text
    return _saved(document)


def sheets(*rows: list[object], title: str = "Sales") -> bytes:
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    return _saved(book)


def pdf(*pages: str, password: str = "", owner_only: bool = False) -> bytes:
    """One line of ASCII a page."""
    writer = PdfWriter()
    font = DictionaryObject({"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"})
    font = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    for text in pages:
        page = writer.add_blank_page(width=300, height=100)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode("ascii"))
        page[NameObject("/Contents")] = writer._add_object(content)
    if password:
        writer.encrypt("" if owner_only else password, owner_password=password, algorithm="AES-256")
    return _saved(writer, "write")


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, "red").save(out, kind, **options)
    return out.getvalue()


def archive(**entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in entries.items():
            made.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def _saved(document: object, method: str = "save") -> bytes:
    out = io.BytesIO()
    getattr(document, method)(out)
    return out.getvalue()
