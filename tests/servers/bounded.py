"""The product's server and gate in front of a small application, as a process: ``python -m tests.servers.bounded``.

Prints its port. Limits of time come from the command line, so that tests need not wait for the real ones.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clawdbot_site.settings.test")

import django

django.setup()

from django.conf import settings
from django.test.utils import override_settings

from bots import serving
from clawdbot_site.security import port
from clawdbot_site.security.gate import Gate
from clawdbot_site.security.rule_book import RuleBook


class NoRules(RuleBook):
    """Without a database."""

    def __init__(self) -> None:
        super().__init__(list, lambda: (0, 0))

    def start(self) -> None:
        pass


async def told(scope: Any, receive: Any, send: Any) -> None:
    """Tells how much came; a WebSocket is read as slowly as nobody would."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = json.dumps({"size": size}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


application = Gate(told, NoRules())


def main(words: list[str]) -> None:
    port.HEADERS_S, port.BODY_S, port.LINGER_S = map(float, words)
    site = serving.server(serving.own_socket("127.0.0.1", 0), lambda: None)
    heard = site.listen_success

    def listening(found: Any) -> None:
        heard(found)
        print(found.getHost().port, flush=True)

    site.listen_success = listening
    site.run()


if __name__ == "__main__":
    with override_settings(ASGI_APPLICATION="tests.servers.bounded.application", TRUSTED_PROXIES=[]):
        assert settings.ASGI_APPLICATION
        main(sys.argv[1:])
