"""Repeats the last thing a person said: deterministic, for tests and for setting up platforms without a model."""

from __future__ import annotations

import re
from collections.abc import Generator

from inference.base import ChatMessage, Delta, Engine, EngineStats, GenRequest, Usage
from inference.engines.replies import Roster, TrackedReply, check_request
from inference.engines.stopping import StopStrings
from inference.text import well_formed

# A word, or one character with what belongs to it (accents, variation selectors, skin tones, joined emoji).
_EXTENSION = "[\u0300-\u036f\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]"
_TOKEN = re.compile(rf"\s*(?:[a-zA-Z0-9_]+|\S{_EXTENSION}*(?:\u200d\S{_EXTENSION}*)*)|\s+")


class EchoEngine(Engine):
    """Answers ``echo: <last user text>``, a token at a time, ``delay_s`` before each."""

    def __init__(self, *, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self._roster = Roster()

    def submit(self, request: GenRequest) -> EchoReply:
        check_request(request)
        reply = EchoReply(request, self._roster, self._delay_s)
        self._roster.admit(reply)
        return reply

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._roster))

    def drain(self, deadline_s: float) -> None:
        self._roster.drain(deadline_s)

    def close(self) -> None:
        self._roster.drain(0)


class EchoReply(TrackedReply):
    def __init__(self, request: GenRequest, roster: Roster, delay_s: float) -> None:
        super().__init__(request, roster)
        self._delay_s = delay_s

    def deltas(self) -> Generator[Delta, None, None]:
        stop = StopStrings(self.request.sampling.stop)
        tokens = _tokens(f"echo: {_last_user_text(self.request.messages)}")
        prompt_tokens = sum(len(_tokens(message.text)) for message in self.request.messages)
        allowed = tokens[: self.request.sampling.max_new_tokens]
        for count, token in enumerate(allowed, start=1):
            self.pause(self._delay_s)
            if finish := self.ending():
                yield Delta(finish=finish)
                return
            self.usage = Usage(prompt_tokens, count)
            if text := stop.feed(token):
                yield Delta(text)
            if stop.is_hit:
                yield Delta(finish="stop")
                return
        if text := stop.close():
            yield Delta(text)
        yield Delta(finish="length" if len(tokens) > len(allowed) else "stop")


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(well_formed(text))


def _last_user_text(messages: tuple[ChatMessage, ...]) -> str:
    return [message.text for message in messages if message.role == "user"][-1]
