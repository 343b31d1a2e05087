"""Requests to the remote engine, and what comes back."""

from __future__ import annotations

import itertools

from inference.base import ChatMessage, GenRequest, Result, SamplingParams
from inference.engines.openai import OpenAIEngine

ids = (f"openai-{n}" for n in itertools.count())


def ask(text: str = "hello", *, deadline_s: float | None = None, **sampling: object) -> GenRequest:
    return GenRequest(next(ids), (ChatMessage("user", text),), SamplingParams(**sampling), deadline_s)


def answer(engine: OpenAIEngine, request: GenRequest | None = None) -> Result:
    return engine.submit(request or ask()).result()


def events(*bodies: str) -> bytes:
    return "".join(f"data: {body}\n\n" for body in bodies).encode()
