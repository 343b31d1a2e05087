"""Whether a language model answers: asked now, with a short prompt, and kept on its row."""

from __future__ import annotations

import uuid

from django.utils import timezone

from inference.base import ChatMessage, Engine, GenRequest, SamplingParams
from inference.engines.openai import Health, OpenAIEngine
from inference.errors import InferenceError
from inference.models import LanguageModel
from inference.worker import engine_of

PROMPT = "Say hello."
TIMEOUT_S = 15.0


def check(model: LanguageModel) -> Health:
    """Ask the model something and store what came of it. Takes up to two timeouts, or as long as loading it does."""
    health = _asked(model)
    model.status = LanguageModel.Status.OK if health.ok else LanguageModel.Status.FAILING
    model.status_detail, model.checked_at = summary(health), timezone.now()
    model.save(update_fields=["status", "status_detail", "checked_at"])
    return health


def summary(health: Health) -> str:
    if not health.ok:
        code = f"HTTP {health.status}: " if health.status else ""
        return f"{code}{health.error}"[:300]
    took = f"{health.first_token_s * 1000:.0f} ms: " if health.first_token_s is not None else ""
    return f"{took}{' '.join(health.text.split())}"[:300]


def _asked(model: LanguageModel) -> Health:
    try:
        engine = engine_of(model)
        return engine.check(PROMPT, TIMEOUT_S) if isinstance(engine, OpenAIEngine) else _first_words(engine)
    except InferenceError as error:
        return Health(False, error=str(error))


def _first_words(engine: Engine) -> Health:
    sampling = SamplingParams(max_new_tokens=32)
    reply = engine.submit(GenRequest(f"check-{uuid.uuid4()}", (ChatMessage("user", PROMPT),), sampling, TIMEOUT_S))
    result = reply.result()
    is_ok = result.finish in ("stop", "length", "repetition") and bool(result.text.strip())
    error = "" if is_ok else result.error or f"it ended with {result.finish} and no text"
    return Health(is_ok, 200 if is_ok else 0, result.text, result.timings.first_token_s, error)
