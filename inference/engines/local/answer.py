"""From token ids to what a person reads: text, thinking apart, stop strings, repetition. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from inference.base import Delta, Finish
from inference.engines.parts import PartSplitter
from inference.engines.reasoning import CLOSING, OPENING
from inference.engines.stopping import RepetitionGuard, StopStrings
from inference.engines.tool_markup import MARKS


class AnswerWriter:
    """Feed the tokens of one answer, get deltas. ``finish`` tells when the text itself says that it is over."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        stop: tuple[str, ...] = (),
        *,
        opens_reasoning: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.finish: Finish | None = None
        self.token_count = 0
        self._text = TokenText(tokenizer)
        self._end_ids = end_ids
        self._parts = PartSplitter(tools, opens_reasoning=opens_reasoning)
        self._stop = StopStrings(stop)
        self._repetition = RepetitionGuard()

    def feed(self, token: int) -> Iterator[Delta]:
        self.token_count += 1
        if token in self._end_ids:
            self.finish = "stop"
            return
        if self._repetition.feed(token):
            self.finish = "repetition"
        yield from self._shown(self._parts.feed(self._text.feed(token)))

    def close(self) -> Iterator[Delta]:
        """No more tokens: give what was held back."""
        yield from self._shown(self._parts.close())
        if rest := self._stop.close():
            yield Delta(rest)

    def _shown(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        for delta in deltas:
            if delta.kind == "answer":
                if shown := self._stop.feed(delta.text):
                    yield Delta(shown)
            elif not self._stop.is_hit:
                yield delta
        if self._stop.is_hit:
            self.finish = "stop"


class TokenText:
    """Decodes token by token; a character whose bytes are not all there waits for the next token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        # Where these are special tokens they would be skipped, and thinking or a call would look like the answer.
        self._tags = {tokenizer.token_to_id(tag): tag for tag in (OPENING, CLOSING, *MARKS)}

    def feed(self, token: int) -> str:
        return self._tags.get(token) or self._stream.step(self._tokenizer, token) or ""
