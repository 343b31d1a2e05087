"""What a file gives: its text, its picture, or the reason why neither."""

from __future__ import annotations

import io
import sys

import pytest
from PIL import Image

from bots.documents import apart
from bots.documents.reading import read
from bots.documents.results import MOST_CHARS, Read
from tests.bots.documents import samples


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("# 标题\n\nwords".encode(), "# 标题\n\nwords"),
        (b"\xef\xbb\xbfname,age", "name,age"),
        ("姓名,年龄".encode("gb18030"), "姓名,年龄"),
        ("姓名".encode("utf-16"), "姓名"),
        (samples.word("First 第一", "Second", cells=("a", "b  c")), "First 第一\nSecond\na | b c"),
        (samples.sheets(["City", "n"], ["北京", 3], [None, None], ["x", None]), "# Sales\nCity | n\n北京 | 3\nx"),
        (samples.pdf("Page one", "Page two"), "Page one\nPage two"),
        (samples.pdf("Locked against changes", password="p", owner_only=True), "Locked against changes"),
    ],
    ids=["md", "csv", "gbk", "utf-16", "docx", "xlsx", "pdf", "pdf-owner"],
)
def test_text_is_found(data, text):
    assert read(data) == Read(text=text)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"  \n ", "empty"),
        (samples.pdf(""), "empty"),
        (bytes(range(256)), "unknown_kind"),
        (samples.archive(readme=b"x"), "unknown_kind"),
        (samples.pdf("secret", password="p"), "encrypted"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 99 + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 99, "old_format"),
        (b"%PDF-1.7 and nothing else", "broken"),
        (samples.pdf("cut off")[:300], "broken"),
        (samples.word("cut off")[:2000], "broken"),
        (samples.archive(word__document_xml=b"x"), "unknown_kind"),
        (samples.archive(**{"word/document.xml": b"<not closed"}), "broken"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 64, "broken"),
    ],
    ids=[
        *("nothing", "blanks", "pdf-blank", "bytes", "zip", "pdf-locked", "office-locked", "office-old"),
        *("pdf-head", "pdf-cut", "docx-cut", "zip-like-docx", "docx-broken", "png-broken"),
    ],  # of their own: the files differ at each run
)
def test_what_cannot_be_read_says_why(data, problem):
    assert read(data) == Read(problem=problem)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked():
    bomb = samples.archive(**{"word/document.xml": b"0" * (210 * 1024 * 1024)})

    assert len(bomb) < 1_000_000
    assert read(bomb) == Read(problem="too_large")


def test_entities_that_grow_without_end_do_not():
    grown = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    xml = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "ha">{grown}]><d>&e11;</d>'

    assert read(samples.archive(**{"word/document.xml": xml.encode()})).problem == "broken"


def test_a_long_text_is_cut_and_says_so():
    found = read(b"0123456789\n" * (MOST_CHARS // 5))

    assert (len(found.text), found.is_cut) == (MOST_CHARS, True)


def test_a_sheet_of_many_rows_is_read_no_further_than_anybody_will():
    found = read(samples.sheets(*[[n, "x" * 200] for n in range(3_000)]))

    assert (len(found.text), found.is_cut) == (MOST_CHARS, True)


def shown(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(read(data).image))


def test_a_picture_is_made_small_upright_and_anonymous():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010F] = "A phone"

    picture = shown(samples.picture("JPEG", (3000, 1000), exif=exif))

    assert (picture.format, picture.size, dict(picture.getexif())) == ("JPEG", (523, 1568), {})


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_common_kind_of_picture_becomes_one_that_models_know(kind):
    assert shown(samples.picture(kind)).format == "PNG"


def test_what_is_transparent_becomes_white():
    picture = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(picture, "PNG")

    assert shown(picture.getvalue()).getpixel((1, 1)) == (255, 255, 255)


def test_a_picture_of_too_many_pixels_is_not_decoded():
    assert read(samples.picture("PNG", (10_000, 9_000), "1")) == Read(problem="too_large")


def test_another_process_reads_and_has_none_of_our_secrets(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "of ours")
    tell = (
        "import os, json; print(json.dumps({'text': str(dict(os.environ)), 'image': '', 'problem': '', 'is_cut': 0}))"
    )
    monkeypatch.setattr(apart, "COMMAND", [sys.executable, "-c", tell])

    found = apart.read(b"%PDF-")

    assert "LANG" in found.text
    assert "of ours" not in found.text


def test_the_other_process_gives_what_reading_gives():
    for data in (samples.word("Hello 你好"), samples.pdf("x", password="p"), samples.picture(), b"plain"):
        assert apart.read(data) == read(data)


def test_a_file_that_breaks_its_reader_is_a_broken_file(monkeypatch):
    monkeypatch.setattr(apart, "COMMAND", [sys.executable, "-c", "import os; os.abort()"])

    assert apart.read(b"%PDF-") == Read(problem="broken")


def test_a_file_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(apart, "COMMAND", [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(apart, "LONGEST_S", 0.3)

    assert apart.read(b"%PDF-") == Read(problem="too_slow")
