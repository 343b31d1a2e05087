"""Whether a service answers, as the user's guide asks: a prompt to ``/completions``, else to ``/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.chat_api import Dialect, chat_body, chunks, explained
from inference.engines.service import CallFailed, Service
from inference.engines.wire import Wire
from inference.text import estimated_tokens

# 404 and 405: the call is missing. The others: it is there, but not for this model.
_NO_LEGACY_CALL = {404, 405, 400, 422, 501}
SHORTEST_WRITING_S = 0.01  # over less time no pace is measured
_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Health:
    """What came of a check. ``status`` is 0 when no answer came; ``error`` is for admins."""

    ok: bool
    status: int = 0
    text: str = ""
    first_token_s: float | None = None
    error: str = ""
    tokens_per_s: float | None = None  # after the first one; an ESTIMATE where the service streams in large pieces


class Checked(Protocol):
    """What a check needs of an engine."""

    model: str
    service: Service
    dialect: Dialect

    def learn(self, failed: CallFailed, used: Dialect) -> bool: ...

    def has_another_key(self, failed: CallFailed) -> bool: ...


class Check:
    """One check of one service, two calls of ``timeout_s`` at most, apart from what is refused at once."""

    def __init__(self, engine: Checked, prompt: str, timeout_s: float) -> None:
        self._engine, self._prompt, self._timeout_s = engine, prompt, timeout_s

    def health(self) -> Health:
        try:
            return self._health()
        except CallFailed as failed:
            reason = self._engine.service.cleaned(str(explained(failed)))
            return Health(False, failed.status or 0, error=reason)

    def _health(self) -> Health:
        try:
            return self._probe("/completions", self._legacy_body)
        except CallFailed as failed:
            if failed.status not in _NO_LEGACY_CALL:
                raise
        return self._probe("/chat/completions", self._chat_body)

    def _legacy_body(self) -> dict[str, Any]:
        return {"model": self._engine.model, "prompt": self._prompt, "max_tokens": _TOKENS, "stream": True}

    def _chat_body(self) -> dict[str, Any]:
        request = GenRequest("check", (ChatMessage("user", self._prompt),), SamplingParams(max_new_tokens=_TOKENS))
        return chat_body(request, self._engine.model, replace(self._engine.dialect, has_stream_options=False))

    def _probe(self, path: str, body: Callable[[], dict[str, Any]]) -> Health:
        """As an answer would: in the service's dialect, with another key where one is refused. Raises CallFailed."""
        while True:
            used = self._engine.dialect
            try:
                return self._asked(path, body())
            except CallFailed as failed:
                if not (self._engine.learn(failed, used) or self._engine.has_another_key(failed)):
                    raise

    def _asked(self, path: str, body: dict[str, Any]) -> Health:
        began_at = time.monotonic()
        pieces: list[str] = []
        first_token_s = None
        events = self._engine.service.stream(path, body, Wire(began_at + self._timeout_s), self._timeout_s)
        with closing(chunks(events)) as received:
            for chunk in received:
                pieces += filter(None, (chunk.reasoning, chunk.answer))
                if pieces and first_token_s is None:
                    first_token_s = time.monotonic() - began_at
        text, total_s = "".join(pieces), time.monotonic() - began_at
        if not text.strip():
            return Health(False, 200, error="the model returned no text")
        return Health(True, 200, text, first_token_s, tokens_per_s=_pace(pieces, total_s, first_token_s))


def _pace(pieces: list[str], total_s: float, first_token_s: float | None) -> float | None:
    """Tokens a second after the first piece; None where everything came at once."""
    writing_s = total_s - (first_token_s or 0.0)
    is_long_enough = len(pieces) > 1 and writing_s > SHORTEST_WRITING_S
    return estimated_tokens(pieces[1:]) / writing_s if is_long_enough else None
