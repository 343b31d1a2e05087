"""Only links to allowed hosts stay clickable, for bots that have a list of them (rule L3). Pure.

Works on the text itself and not on parsed Markdown, so it holds for every reader of it: both platforms, web pages that
render Markdown, clients that make links of whatever looks like one. What is not allowed stays readable, as
``https[:]//host[.]example``. Escapes, entities and invisible signs are read as a Markdown parser reads them. Code is
treated as text: not every client knows what code is.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_HELD: Final = 2_000
_END = r"\s/?#\\<>\"'`()\[\]{}|^*_~，；、！？：…（）【】《》「」“”"
_LABEL = r"[^\W_](?:[\w-]{0,62})"
_DOT = "[.。．｡]"
_TOP = "com|net|org|cn|io|co|info|biz|xyz|top|site|online|shop|club|vip|app|dev|ai|me|cc|tv|ru|su|tk|link|click|icu"
_LINK = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]{{0,30}}):(?P<slashes>[/\\]{{2,}})(?P<authority>[^{_END}]*)"
    r"|(?P<bare_scheme>https?|ftp|file|mailto|tel|sms|javascript|vbscript|data|blob|lark|feishu|dingtalk)"
    rf":(?P<slash>[/\\]?)(?P<rest>(?=[^\s：])[^{_END}]*)"
    rf"|(?P<email>(?!www[.])[a-z0-9.+-]{{1,64}}@(?!www[.])(?:{_LABEL}{_DOT})+[a-z]{{2,24}}(?![\w.。．｡-]*[/?#@:]))"
    rf"|(?P<relative>(?<![:/\\\w])[/\\]{{2}}(?=[^\s/\\]+[.。．｡:]))(?P<after>[^{_END}]*)"
    rf"|(?P<host>www{_DOT}[^{_END}]+"
    rf"|(?<![\w.@-])(?:{_LABEL}{_DOT})+(?:[^\W\d]{{2,24}}|xn--[a-z0-9-]{{1,59}}|\d{{1,3}})(?::\d{{1,5}})?(?=[/?#@\\][^\s\d])"
    rf"|(?<![\w.@-])(?:{_LABEL}{_DOT})+(?:{_TOP}|xn--[a-z0-9-]{{1,59}})(?![a-z0-9_-])(?:[@:][^{_END}]*)?)",
    re.IGNORECASE,
)
_UNIT = re.compile(r"\\[!-/:-@\[-`{-~]|&(?:#\d{1,8}|#x[0-9a-f]{1,8}|[a-z][a-z0-9]{1,31});|.", re.IGNORECASE | re.DOTALL)
_PLAIN_HOST = re.compile(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)\.?(?::\d{1,5})?", re.IGNORECASE | re.ASCII)
_SUSPICIOUS = re.compile(r"[@%:\\.a-z0-9]", re.IGNORECASE | re.ASCII)
_TARGET = re.compile(r"\]\s{0,9}[(:]\s{0,9}(<?)$|(<)$")
_GROWING = re.compile(r"[!-~。．｡\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+$")
_DOTS: Final = str.maketrans({".": "[.]", "。": "[。]", "．": "[．]", "｡": "[｡]"})


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The text as a reader sees it, and where each of its signs begins and ends in what was written."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


def only_allowed(text: str, hosts: Sequence[str]) -> str:
    """``hosts`` as the bot has them: ``docs.example.com``, ``*.example.com``. Without any, all links stay."""
    if not hosts:
        return text
    seen, written, done = _decoded(text), [], 0
    for link in _LINK.finditer(seen.text):
        if link["email"]:
            continue
        if (host_end := _allowed_to(link, hosts)) is not None:
            if host_end < link.end():  # words without a space before them must not become part of the host
                end = seen.ends[host_end - 1]
                written += [text[done:end], " "]
                done = end
            continue
        start, end = seen.starts[link.start()], seen.ends[link.end() - 1]
        written += [text[done:start], _broken(link, text[max(0, start - 30) : start])]
        if text[end : end + 1] in ("(", "[", ":"):
            written.append(" ")  # the last bracket must begin nothing
        done = end
    return "".join((*written, text[done:]))


def shown(text: str, hosts: Sequence[str]) -> str:
    """Of a growing text: without the end that may still become a link."""
    if not hosts:
        return text
    growing = _GROWING.search(text)
    held = len(growing[0]) if growing and len(growing[0]) <= LONGEST_HELD else 0
    return only_allowed(text[: len(text) - held], hosts)


def is_host_allowed(host: str, hosts: Iterable[str]) -> bool:
    name = host.lower()
    return any(name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed for allowed in hosts)


def _decoded(text: str) -> _Decoded:
    if text.isascii() and "\\" not in text and "&" not in text:
        places = range(len(text) + 1)
        return _Decoded(text, places[:-1], places[1:])
    signs: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for unit in _UNIT.finditer(text):
        for sign in _signs(unit[0]):
            signs.append(sign)
            starts.append(unit.start())
            ends.append(unit.end())
    return _Decoded("".join(signs), starts, ends)


def _signs(unit: str) -> Iterator[str]:
    """What a unit of the text shows, in the width that addresses have."""
    plain = unit if len(unit) == 1 else unit[1] if unit[0] == "\\" else html.unescape(unit)
    for sign in plain:
        if unicodedata.category(sign) == "Cf":
            continue
        narrow = unicodedata.normalize("NFKC", sign)
        yield narrow if len(narrow) == 1 and narrow.isascii() and sign not in "：．" else sign


def _allowed_to(link: re.Match[str], hosts: Sequence[str]) -> int | None:
    """Where its host ends, if it can be read in one way only: as an allowed host, perhaps with Chinese right behind."""
    group = "authority" if link["scheme"] else "host"
    is_web = not link["scheme"] or (link["scheme"].lower() in ("http", "https") and link["slashes"] == "//")
    authority = link[group] or ""
    plain = _PLAIN_HOST.match(authority)
    if not (is_web and plain and is_host_allowed(plain[1], hosts)):
        return None
    rest = authority[plain.end() :]
    if _SUSPICIOUS.search(rest):
        return None
    return link.start(group) + plain.end() if rest.strip("。．｡") else link.end()


def _broken(link: re.Match[str], before: str) -> str:
    """Readable, and no link to any reader. As the target of a Markdown link it also makes that no link any more."""
    target = _TARGET.search(before)
    gap = "" if not target else " <" if target[1] or target[2] else " "
    if link["scheme"]:
        return f"{link['scheme']}{gap}[:]{link['slashes']}{link['authority'].translate(_DOTS)}"
    if link["bare_scheme"]:
        return f"{link['bare_scheme']}{gap}[:]{link['slash']}{link['rest'].translate(_DOTS)}"
    if link["relative"]:
        return f"[//]{gap}{link['after'].translate(_DOTS)}"
    first, dot, rest = re.split(r"([.。．｡])", link["host"], maxsplit=1)
    return f"{first}{gap}[{dot}]{rest.translate(_DOTS)}"
