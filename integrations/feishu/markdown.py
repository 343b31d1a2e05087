"""The model's Markdown made safe for Feishu: parsed, then only allowed nodes are written again.

Model output is untrusted: no mention, no picture, no link with a hidden target may come out of it, also where Feishu's
parser reads Markdown otherwise than CommonMark does. Ordinary text passes unchanged, so a growing text stays growing.
Pure. Source: PROTOCOL.md, "Markdown"; rules L3 and L4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import unescape
from textwrap import indent

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_TABLES = 3
MAX_BRACKETS = 1_000  # beyond that, looking for links takes seconds: they are left as text
MAX_DEPTH = 8  # deeper quotes and lists are written flat, or every line would carry a long prefix
LIST_INDENT = 4


def _parser(*disabled: str) -> MarkdownIt:
    """CommonMark without raw HTML. Escapes stay as they were written (text_join): what we saw as text stays text."""
    made = MarkdownIt("commonmark", {"html": False, "maxNesting": 100}).enable(["table", "strikethrough"])
    return made.disable(["lheading", "reference", "text_join", *disabled])


_PARSER, _PARSER_OF_PARTS = _parser(), _parser("code")
_PARSER_WITHOUT_LINKS = _parser("code", "link", "image")
_INVISIBLE = "\u00ad\u200b-\u200f\u2060-\u2064\ufeff"
_LESS = r"(?:<|&lt;?|&#0*60;?|&#x0*3c;?)"
_AT_IN_CODE = re.compile(rf"{_LESS}(?=[/{_INVISIBLE}]*at(?![a-z0-9]))", re.IGNORECASE)
_AT = re.compile(rf"{_LESS}(?=[\W_]{{0,9}}at(?![a-z0-9]))", re.IGNORECASE)
_TAG = re.compile(rf"(?:<|&lt;|&#0*60;|&#x0*3c;)(?=[{_INVISIBLE}]*[/!?]|[{_INVISIBLE}]*[^\W\d_])", re.IGNORECASE)
_PICTURE = re.compile(rf"!(?=[{_INVISIBLE}]*\[)")
_TARGET = re.compile(rf"\](?=[{_INVISIBLE}]*\()")
_DEFINITION = re.compile(r"^([ \t>]*\[[^\]\n]+\]):(?=\s*<?[a-z][a-z0-9+.-]*:)", re.IGNORECASE | re.MULTILINE)
_DELIMITER_ROW = re.compile(r"^[ \t>]*(?:\|[ \t]*)?:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*$", re.MULTILINE)
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202d\u202e\ud800-\udfff]")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,20}")
_PLAIN_BLOCKS = {"paragraph_open", "paragraph_close", "inline"}
_PLAIN_INLINES = {"text", "softbreak", "hardbreak"}
_DECODED = str.maketrans({"`": "｀", "\\": "＼", "\n": " ", "\r": " "})  # signs that would change their neighbours


def clean(markdown: str) -> str:
    """Return Feishu Markdown that shows what ``markdown`` says and does nothing else."""
    return _written(_PARSER, markdown)


def clean_part(markdown: str) -> str:
    """Clean a piece that was cut out of cleaned Markdown: a cut may have torn a code span open."""
    return _written(_PARSER_OF_PARTS, markdown)


def is_plain(markdown: str) -> bool:
    """Whether the text uses no Markdown at all, so that a plain text message shows it as it is."""
    tokens = _tokens(_PARSER, markdown)
    inlines = [child.type for token in tokens for child in token.children or ()]
    return _PLAIN_BLOCKS.issuperset(token.type for token in tokens) and _PLAIN_INLINES.issuperset(inlines)


def plain(text: str) -> str:
    """Return a text message's text: as written, but unable to mention, to link under a name or to embed."""
    return _harmless(_UNWANTED.sub("", text)).strip()


def _written(parser: MarkdownIt, markdown: str) -> str:
    written = _few_delimiter_rows(_Writer(_tokens(parser, markdown)).blocks()).strip()
    return _without_pictures(written) or ("…" if markdown.strip() else "")


def _tokens(parser: MarkdownIt, markdown: str) -> list[Token]:
    parser = parser if markdown.count("[") <= MAX_BRACKETS else _PARSER_WITHOUT_LINKS
    return parser.parse(_UNWANTED.sub("", markdown))


class _Writer:
    """Writes the tokens of one document, counting its tables. Every method consumes what it writes."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = iter(tokens)
        self._tables = 0
        self._writers: dict[str, Callable[[Token, int], str]] = {
            "paragraph_open": lambda *_: self._running_text(),
            "heading_open": lambda token, _: f"{token.markup} {self._running_text()}",
            "fence": lambda token, _: _fenced(token.content, token.info),
            "code_block": lambda token, _: _fenced(token.content),
            "hr": lambda *_: "---",
            "blockquote_open": self._quote,
            "bullet_list_open": self._list,
            "ordered_list_open": self._list,
            "table_open": self._table,
        }

    def blocks(self, depth: int = 0) -> str:
        """Everything up to the end of the container that is open."""
        written: list[str] = []
        before = ""
        for token in self._tokens:
            if token.nesting < 0:
                break
            gap = "\n" if before == "paragraph_open" and token.type.endswith("_list_open") and depth else "\n\n"
            written += [gap if written else "", self._writers[token.type](token, depth)]
            before = token.type
        return "".join(written)

    def _running_text(self) -> str:
        inline, _closing = next(self._tokens), next(self._tokens)
        return _inline(inline.children or [])

    def _quote(self, _: Token, depth: int) -> str:
        body = self.blocks(depth + 1)
        return body if depth >= MAX_DEPTH else indent(body, "> ", lambda _: True)

    def _list(self, opening: Token, depth: int) -> str:
        number = int(opening.attrGet("start") or 1) if opening.type == "ordered_list_open" else None
        items: list[str] = []
        while next(self._tokens).type == "list_item_open":
            marker = "- " if number is None else f"{number + len(items)}. "
            body = self.blocks(depth + 1)
            if depth < MAX_DEPTH:
                body = indent(body, " " * max(LIST_INDENT, len(marker))).lstrip(" ")
            items.append(f"{marker}{body}".rstrip())
        return "\n".join(items)

    def _table(self, *_: object) -> str:
        rows: list[list[str]] = []
        while (token := next(self._tokens)).type != "table_close":
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(_inline(token.children or []).replace("\n", " "))
        self._tables += 1
        if self._tables > MAX_TABLES:
            return _fenced("\n".join(" | ".join(row) for row in rows))
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        rows.insert(1, ["---"] * len(rows[0]))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _inline(tokens: Sequence[Token]) -> str:
    """The running text of a block. Code stays apart, so that text around it is made harmless as a whole."""
    last_code = max((i for i, token in enumerate(tokens) if token.type == "code_inline"), default=0)
    written, text = "", ""
    for i, token in enumerate(tokens):
        if token.type == "code_inline":
            written, text = written + _harmless(text) + _code_span(token), ""
        else:
            piece = _piece(tokens, i)
            # A backtick before a code span could pair with its first one in another parser.
            text += piece.replace("`", "｀") if i < last_code else piece
    return written + _harmless(text)


def _piece(tokens: Sequence[Token], i: int) -> str:
    token = tokens[i]
    match token.type:
        case "text":
            return token.content
        case "text_special":
            return _special(token)
        case "softbreak" | "hardbreak":
            return "\n"
        case "image":
            target = _web_address(token, "src") or str(token.attrGet("src") or "")
            return f"{token.content} ({target})" if token.content.strip() and target else token.content or target
        case "link_close":
            return _shown_target(tokens, i)
        case "link_open":
            return "" if _web_address(token) else "["
    return token.markup  # emphasis, strong and strikethrough, opening and closing


def _special(token: Token) -> str:
    """An escape as it was written, an entity as the sign it stands for: readers that decode early see nothing new."""
    if token.info == "entity":
        return _UNWANTED.sub("", token.content).translate(_DECODED)
    return token.markup


def _shown_target(tokens: Sequence[Token], closing: int) -> str:
    """What follows a link's text: its target, unless the text is just that. Only the web's are made to be clicked."""
    opening = max(i for i in range(closing) if tokens[i].type == "link_open")
    target = _web_address(tokens[opening])
    if not target:
        return f"] ({tokens[opening].attrGet('href')})"
    words = "".join(token.content for token in tokens[opening + 1 : closing])
    return "" if words == target else f" ({target})" if words.strip() else target


def _web_address(token: Token, attribute: str = "href") -> str:
    target = str(token.attrGet(attribute) or "")
    return target.replace("*", "%2A") if target.lower().startswith(("https://", "http://")) else ""


def _code_span(token: Token) -> str:
    content = _harmless_code(token.content)
    pad = " " if content[:1] in ("`", " ") or content[-1:] in ("`", " ") else ""
    return f"{token.markup}{pad}{content}{pad}{token.markup}"


def _fenced(content: str, info: str = "") -> str:
    content = _harmless_code(re.sub("`{7,}", "`" * 6, content)).rstrip("\n")
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    language = _LANGUAGE.match(info.strip())
    return f"{fence}{language[0] if language else ''}\n{content}\n{fence}"


def _harmless(text: str) -> str:
    """Break what Feishu could read as a tag, a picture, a link with a hidden target or the definition of one."""
    text = _PICTURE.sub("! ", _TAG.sub("＜", _AT.sub("＜", text)))
    return _DEFINITION.sub(r"\1 :", _TARGET.sub("] ", text))


def _harmless_code(content: str) -> str:
    """Keep code verbatim but for mentions, which must not hang on how the platform reads code.

    Code that holds backticks may be ended by them in another parser: there links are broken as well.
    """
    content = _AT_IN_CODE.sub("＜", content)
    return _TARGET.sub("] ", content) if "`" in unescape(content) else content


def _few_delimiter_rows(text: str) -> str:
    """The platform counts tables by their delimiter rows, wherever one stands: defuse all beyond the allowed ones."""
    rows = list(_DELIMITER_ROW.finditer(text))
    for row in reversed(rows[MAX_TABLES:]):
        text = text[: row.start()] + row[0].replace("-", "–") + text[row.end() :]
    return text


def _without_pictures(text: str) -> str:
    """Break what is left of picture syntax inside code and from one code to the next: ``![``, ``]`` and ``(``."""
    first, *others = text.split("![")
    written, is_picture = [], False
    for piece in reversed(others):
        closing = piece.find("]")
        if closing >= 0:
            is_picture = piece[closing + 1 : closing + 2] == "("
        written.append(("! [" if is_picture else "![") + piece)
    return first + "".join(reversed(written))
