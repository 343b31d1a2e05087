"""The search finds: each encoding made by other means than its own, alone and amid other text."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import textwrap
import urllib.parse
import zlib
from collections.abc import Callable

import pytest

from tests.canary.search import Canary, Search

pytestmark = pytest.mark.rule("E10")
PLAIN = "kP3-" + secrets.token_urlsafe(30)
ODD = f"p/+=&<\"\\é{secrets.token_hex(12)}'"
SEED = base64.b32encode(secrets.token_bytes(20)).decode()

DRESSES: dict[str, Callable[[str], bytes | str]] = {
    "raw": lambda text: text,
    "lower case": lambda text: f"https://{text.lower()}.example/",
    "reversed": lambda text: "".join(reversed(text)),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "bytea of PostgreSQL": lambda text: "\\\\x00" + f"{{{text}}}".encode().hex(),
    "UTF-16 LE": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "query": lambda text: urllib.parse.urlencode({"session": text}),
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent, each byte": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "JSON": lambda text: json.dumps({"key": text}),
    "JSON in JSON": lambda text: json.dumps({"body": json.dumps({"key": text})}),
    "JSON, each sign": lambda text: "".join(f"\\u{ord(sign):04x}" for sign in text),
    "Python": lambda text: repr([text]),
    "gzip": lambda text: gzip.compress(f"line\n{text}\n".encode()),
    "gzip amid other bytes": lambda text: b"PGDMP\x1f\x8b\x08no" + gzip.compress(f"x {text}".encode()) + b"\x00end",
    "gzip, cut": lambda text: gzip.compress(secrets.token_bytes(500) + text.encode() + secrets.token_bytes(4000))[
        :3000
    ],
    "zlib": lambda text: zlib.compress(text.encode()),
    "gzip in gzip": lambda text: gzip.compress(gzip.compress(text.encode())),
    "base64 in gzip": lambda text: gzip.compress(base64.b64encode(b"ab" + text.encode() + b"c")),
    "wrapped base64": lambda text: "\r\n".join(textwrap.wrap(base64.b64encode(b"?" + text.encode()).decode(), 16)),
    "in groups": lambda text: " ".join(textwrap.wrap(text, 4, drop_whitespace=False)),
    "basic authorisation": lambda text: b"Basic " + base64.b64encode(f"name:{text}".encode()),
    **{
        f"base64, {before} before, {after} behind": lambda text, before=before, after=after: base64.b64encode(
            b"a" * before + text.encode() + b"z" * after
        )
        for before in range(3)
        for after in range(3)
    },
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(b"\xff" + text.encode() + b"\xfe"),
    "base32": lambda text: base64.b32encode(b"abcd" + text.encode() + b"e"),
}


@pytest.mark.parametrize("text", [PLAIN, ODD, SEED], ids=["plain", "odd", "seed"])
@pytest.mark.parametrize("dress", DRESSES)
def test_a_planted_secret_is_found_in_every_dress(dress: str, text: str) -> None:
    search = Search([Canary("planted", text), Canary("other", secrets.token_urlsafe(30))])
    worn = DRESSES[dress](text)
    raw = worn.encode() if isinstance(worn, str) else worn

    assert search.names(raw) == {"planted"}
    assert search.names(b"before\x00\x1f\x8b" + raw + b"\nbehind") == {"planted"}


@pytest.mark.parametrize(
    "leak",
    [PLAIN[:20] + "…", "…" + PLAIN[-20:], base64.b32decode(SEED), base64.b32decode(SEED).hex()],
    ids=["its beginning", "its end", "its bytes", "its bytes in hex"],
)
def test_a_part_of_a_secret_is_found_and_what_it_stands_for(leak: bytes | str) -> None:
    assert len(Search([Canary("key", PLAIN), Canary("seed", SEED)]).names(leak)) == 1


def test_nothing_is_found_where_nothing_is() -> None:
    search = Search([Canary(str(number), secrets.token_urlsafe(20)) for number in range(50)])

    assert search.hits(secrets.token_bytes(200_000) + b"\x78\x9c" * 50 + gzip.compress(b"clean" * 1000)) == set()


def test_a_secret_that_chance_could_write_is_no_canary() -> None:
    with pytest.raises(AssertionError, match="too short"):
        Canary("pin", "123456")
