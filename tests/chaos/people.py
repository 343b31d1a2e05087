"""People who write at a steady pace, as nginx carries their callbacks, until they are told that it is enough."""

from __future__ import annotations

import random
import time

from tests.chaos.judge import Asked
from tests.chaos.sender import Callback, Message, Platform, Sender
from tests.chaos.services import ServedSite
from tests.servers.site import until

CHATS, MOST_MESSAGES = 120, 10_000
PATIENCE_S = 60.0


class Proxied(Platform):
    """As nginx does with our file: a new connection for each request."""

    def callback(self, message: Message) -> Callback:
        made = super().callback(message)
        return Callback(made.path, {**made.headers, "Connection": "close"}, made.body)


class Patient(Sender):
    timeout_s = 60.0  # nginx's


class People:
    """``rate``: messages a second."""

    def __init__(self, site: ServedSite, rate: float) -> None:
        self.platform = Proxied(site.keys, site.secret, site.platform_url)
        self._sender = Patient(self.platform, site.port, MOST_MESSAGES, CHATS, random.Random(1), repeats=0)
        self._most = MOST_MESSAGES
        began_s = time.monotonic()
        self._sender.start(lambda: min(self._most, rate * (time.monotonic() - began_s)))

    @property
    def refusals(self) -> list[str]:
        """Callbacks that got no 200, and what they got."""
        return self._sender.refusals

    @property
    def begun(self) -> int:
        return self._sender.begun

    def wait_for_more(self, messages: int) -> None:
        due = self.begun + messages
        until(lambda: self.begun >= due, "the senders stand still", PATIENCE_S)

    def finish(self) -> list[Asked]:
        """Nobody begins anything more; returns what was asked when all of it is taken."""
        self._most = self.begun
        sent = [message for message in self._sender.messages if message.began_s]
        until(lambda: all(message.accepted_s for message in sent), "a callback is not answered", PATIENCE_S)
        self._sender.stop()
        return [message.asked for message in sent]
