"""Visits to the gate in front of a site that remembers them, and rules from a list."""

from __future__ import annotations

from clawdbot_site.security.gate import Gate
from clawdbot_site.security.ip_rules import Rule
from clawdbot_site.security.rule_book import RuleBook

VISITOR = "198.51.100.7"
BLOCK = Rule("r1", "block", f"{VISITOR}/32", "site")


class Site:
    """The application behind the gate: reads the body, answers 200, and remembers that it was reached."""

    def __init__(self) -> None:
        self.scopes: list = []
        self.body = b""

    async def __call__(self, scope, receive, send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        while True:
            message = await receive()
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})


class Book(RuleBook):
    """Rules from a list; no thread, unless asked for."""

    def __init__(self, *rules: Rule, **options) -> None:
        self.rows = list(rules)
        super().__init__(lambda: list(self.rows), lambda: (len(self.rows), hash(tuple(self.rows))), **options)
        self.noted: list[tuple[str, str, str, str]] = []

    def start(self) -> None:
        pass

    def note(self, action, label, reason, address) -> None:
        self.noted.append((action, label, reason, address))


async def visit(book, path="/", *, kind="http", headers=(), chunks=(b"",), client=VISITOR, site=None):
    """Return (what was sent, the site). ``chunks`` are the body."""
    site = site or Site()
    sent: list = []
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]
    waiting = waiting if kind == "http" else [{"type": "websocket.connect"}]
    read: list = []

    async def receive():
        read.append(waiting[0]["type"])
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers), "client": (client, 1) if client else None}
    await Gate(site, book)(scope, receive, send)
    return sent, site, read


async def status_of(book, path="/", **options) -> int:
    sent, _site, _read = await visit(book, path, **options)
    return sent[0]["status"]
