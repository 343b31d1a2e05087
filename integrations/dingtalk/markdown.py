"""A model's Markdown, untrusted, re-emitted as the subset that DingTalk shows. Pure.

Promises about every output: it embeds no picture, hides no link target, holds no tag of DingTalk's own, and mentions
nobody. Where plain text would say one of these, a zero-width space splits it: what people read stays the same.
Source: PROTOCOL.md, "Markdown" and "Mentions".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

MAX_SOURCE_CHARS = 100_000
MAX_URL_CHARS = 2_000
FENCE = "```"

_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_PARSER.parse("")  # compiles the rules here, where only one thread can be

_GUARD = "\u200b"
_SCRUBBED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # controls, bidi tricks
_EVERYBODY = r"all(?![a-z])|every(?:one|body)|所有人|全体|全員|大家"
_ANYWHERE = re.compile(
    r"!(?=\[)"  # a picture
    rf"|[@＠﹫](?!\u200b)(?=[\W_]{{0,16}}(?:{_EVERYBODY}))"
    r"|<(?=/?at\b)|\bat(?=id\s*=)",  # a mention's tag and attribute
    re.IGNORECASE,
)
_IN_CODE = re.compile(r"\](?=[(:]\s*<?(?:[a-z][a-z0-9+.-]*:|//))|`(?=``)", re.IGNORECASE)  # old clients know no code
_IN_TEXT = re.compile(
    r"\](?=[(\[:])"  # a link whose target nobody sees
    r"|<(?=[A-Za-z/!?])"
    r"|&(?=#|[A-Za-z]\w*;)"  # what an entity would turn into
    r"|(?<![A-Za-z0-9._%+/-])[@＠﹫](?=\S)"  # a mention, but not an e-mail address
    r"|`(?=``)|~(?=~~)"
)
_BLOCK_START = re.compile(
    r"^(?=[ ]{0,3}(?:#{1,6}(?:\s|$)|>|[-+*](?:\s|$)|\d{1,9}[.)](?:\s|$)|[-=_*]{3,}\s*$))", re.MULTILINE
)
_TAG_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_URL_SAFE = "-._~:/?#!$&+,;=%"  # without @ ( ) [ ] * and quotes


def clean(source: str, *, rich: bool = False) -> str:
    """Safe Markdown: for a robot's message, or with ``rich`` for a card, which shows tables too."""
    return _gate(_Writer(rich).blocks(_tree(source))).strip()


def plain_text(source: str) -> str:
    """Safe text when ``source`` holds no Markdown at all; else empty. Such an answer needs no Markdown message."""
    text = _scrub(source)
    is_plain = not re.search(r"[\\&<]", text) and all(_is_plain(node) for node in _tree(source).walk())
    return _harmless(text) if is_plain else ""


def literal(source: str) -> str:
    """Safe text that shows what ``source`` holds, sign for sign, in a message that is no Markdown."""
    return _harmless(_scrub(source))


def _harmless(text: str) -> str:
    return _gate(_split(_IN_TEXT, text)).strip()


def preview(markdown: str) -> str:
    """The first words of a safe Markdown text, for a list of chats."""
    words = re.sub(r"[*`#>|~\[\]]+|\]?\(https?:[^)]*\)", " ", markdown[:400]).split()
    return " ".join(words)[:40].strip(" -") or "…"


def _tree(source: str) -> SyntaxTreeNode:
    return SyntaxTreeNode(_PARSER.parse(_scrub(source)))


def _scrub(source: str) -> str:
    return _SCRUBBED.sub("", source[:MAX_SOURCE_CHARS].replace("\r\n", "\n").replace("\r", "\n"))


def _is_plain(node: SyntaxTreeNode) -> bool:
    return node.is_root or node.type in ("paragraph", "inline", "text", "softbreak")


def _split(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: found[0] + _GUARD, text)


def _gate(text: str) -> str:
    """The last look at a whole text: no picture, no call to everybody, no tag."""
    return _split(_ANYWHERE, text)


def _web_url(href: str) -> str:
    """An absolute http(s) address that cannot be misread; else empty."""
    try:
        parts = urlsplit(href)
    except ValueError:
        return ""
    is_web = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"[@\[\]]", parts.netloc)
    return quote(href, safe=_URL_SAFE) if is_web and len(href) <= MAX_URL_CHARS else ""


class _Writer:
    """Writes the nodes of one text."""

    def __init__(self, rich: bool) -> None:
        self.rich = rich
        self.line_break = "<br>" if rich else "  \n"

    def blocks(self, parent: SyntaxTreeNode, between: str = "\n\n") -> str:
        return between.join(block for block in map(self._block, parent.children) if block)

    def _block(self, node: SyntaxTreeNode) -> str:
        match node.type:
            case "paragraph":
                return _BLOCK_START.sub(_GUARD, self._without_breaks(self._inline(node.children)))
            case "heading":
                return f"{'#' * int(node.tag[1])} {self._inline(node.children).replace(self.line_break, ' ')}"
            case "blockquote":
                return _indented(self.blocks(node), "> ", "> ")
            case "bullet_list" | "ordered_list":
                return self._list(node)
            case "fence" | "code_block":
                return _fenced(node.content, node.info)
            case "table":
                return self._table(node)
            case "hr":
                return "---"
            case _:
                return _split(_IN_TEXT, node.content)

    def _list(self, node: SyntaxTreeNode) -> str:
        number = int(node.attrs.get("start", 1))
        items = []
        for offset, item in enumerate(node.children):
            marker = "- " if node.type == "bullet_list" else f"{number + offset}. "
            between = "\n" if item.children and item.children[0].hidden else "\n\n"
            items.append(_indented(self.blocks(item, between), marker, " " * len(marker)))
        return "\n".join(items)

    def _table(self, node: SyntaxTreeNode) -> str:
        head, *rows = [[self._inline(cell.children) for cell in row.children] for row in _rows(node)]
        if self.rich:
            lines = [head, ["---"] * len(head), *rows]
            return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        named = [[f"{name}: {cell}" if name else cell for name, cell in zip(head, row, strict=False)] for row in rows]
        return "\n".join("- " + "; ".join(cells) for cells in (named or [head]))

    def _without_breaks(self, text: str) -> str:
        """At the start of a paragraph a ``<br>`` would begin raw HTML."""
        while text.startswith(self.line_break):
            text = text.removeprefix(self.line_break)
        return text

    def _inline(self, nodes: Sequence[SyntaxTreeNode]) -> str:
        return "".join(map(self._span, nodes))

    def _span(self, node: SyntaxTreeNode) -> str:
        match node.type:
            case "inline":
                return self._inline(node.children)
            case "softbreak" | "hardbreak":
                return self.line_break
            case "code_inline":
                return _code_span(node.content)
            case "strong" | "em" | "s":
                mark = {"strong": "**", "em": "*", "s": "~~"}[node.type]
                return f"{mark}{self._inline(node.children)}{mark}"
            case "link":
                return _link(self._inline(node.children), str(node.attrs["href"]))
            case "image":
                return _link(self._text(node.content), str(node.attrs["src"]))
            case _:
                return self._text(node.content)

    def _text(self, text: str) -> str:
        return self.line_break.join(_split(_IN_TEXT, line) for line in _TAG_BREAK.split(text))


def _rows(table: SyntaxTreeNode) -> list[SyntaxTreeNode]:
    return [row for part in table.children for row in part.children]


def _link(label: str, href: str) -> str:
    """Only the target itself is clickable, so nobody can be led astray."""
    url = _web_url(href)
    if not url:
        return label
    target = f"[{url}]({url})"
    return target if label in ("", url, href) else f"{label} ({target})"


def _code_span(code: str) -> str:
    mark = "``" if "`" in code else "`"
    gap = " " if "`" in code else ""
    return f"{mark}{gap}{_split(_IN_CODE, code).replace('``', f'`{_GUARD}`')}{gap}{mark}"


def _fenced(code: str, info: str) -> str:
    """A fence in the first column, whatever it stood in: so that splitting can close and reopen it."""
    language = re.match(r"[A-Za-z0-9+#._-]{0,20}", info)
    return f"{FENCE}{language[0] if language else ''}\n{_split(_IN_CODE, code).rstrip()}\n{FENCE}"


def _indented(text: str, first: str, rest: str) -> str:
    """Lines behind their markers; fenced code stays where it is."""
    lines: list[str] = []
    in_code = False
    for line in ("\n" + text if text.startswith(FENCE) else text).split("\n"):
        is_fence = line.startswith(FENCE)
        prefix = "" if in_code or is_fence else rest if lines else first
        lines.append(prefix + line if line else prefix.rstrip())
        in_code ^= is_fence
    return "\n".join(lines)
