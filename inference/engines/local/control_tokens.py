"""Keeps people from writing control tokens: in a prompt only the chat template may. Knows a tokenizer, no model."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from inference.text import well_formed

_CONTROL_LIKE = re.compile(r"[<\[].*[>\]]", re.S)  # <think>, <tool_call>, [INST]: control, though not marked special
_MAX_BREAKS = 4

Span = tuple[int, int]


class ControlTokens:
    """The tokens of one tokenizer that end turns, open roles, call tools, stand for pictures, and so on."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self.ids = _control_ids(tokenizer)

    def neutralise(self, text: str) -> str:
        """Return ``text`` so changed that no part of it becomes a control token: ``< |im_end|>``.

        The tokenizer itself judges, so what its normaliser would turn into a control token is found too.
        """
        text = well_formed(text)
        breaks = 0
        while spans := self._spans(text):
            text = _broken(text, spans) if breaks < _MAX_BREAKS else _without(text, spans)
            breaks += 1
        return text

    def _spans(self, text: str) -> list[Span]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return [span for id, span in zip(found.ids, found.offsets, strict=True) if id in self.ids and span[0] < span[1]]


def _control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder.items()
    texts = {token.content: id for id, token in added if token.special or _CONTROL_LIKE.fullmatch(token.content)}
    texts |= dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    if tokenizer.unk_token not in (tokenizer.bos_token, tokenizer.eos_token):
        texts.pop(tokenizer.unk_token, None)  # it stands for every character that the vocabulary lacks
    return frozenset(id for text, id in texts.items() if len(text) > 1)  # one character is not a forgery


def _broken(text: str, spans: list[Span]) -> str:
    for start, end in reversed(spans):
        token = text[start:end].strip()
        text = f"{text[:start]}{token[:1]} {token[1:]}{text[end:]}"
    return text


def _without(text: str, spans: list[Span]) -> str:
    for start, end in reversed(spans):
        text = text[:start] + text[end:]
    return text
