"""Which model answers: the bot's, or its fallback where that one fails before the person has seen anything."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from bots.answers import Answer
from bots.models import Bot
from inference.base import GenRequest
from inference.errors import FILTERED
from inference.models import LanguageModel
from monitoring import audit, metrics

logger = logging.getLogger(__name__)

# Where another model stands ready, the first one is given up earlier: both together end within a minute.
FIRST_PATIENCE_S, SECOND_PATIENCE_S = 15.0, 45.0

Ask = Callable[[LanguageModel, GenRequest], Answer]


def ask_in_turn(bot: Bot, model: LanguageModel, request: GenRequest, ask: Ask) -> Answer:
    """Raises what ``ask`` raises. A model with a full queue has not failed: the question waits for it."""
    second = _second(bot, model, request)
    if second is None:
        return ask(model, request)
    first_answer = ask(model, replace(request, first_token_s=FIRST_PATIENCE_S))
    if not _may_be_asked_elsewhere(first_answer):
        return first_answer
    logger.warning("the fallback model is asked", extra={"model": second.name, "instead_of": model.name})
    answer = ask(second, replace(request, id=f"{request.id}.fallback", first_token_s=SECOND_PATIENCE_S))
    answer.fallback_from = {"model": model.name, "reason": first_answer.error[:300]}
    if answer.error:
        answer.error = f"{model.name}: {first_answer.error} - {second.name}: {answer.error}"
    else:
        _note(bot, model, second)
    return answer


def _second(bot: Bot, first: LanguageModel, request: GenRequest) -> LanguageModel | None:
    second = bot.fallback_model
    if second is None or second.pk == first.pk:
        return None
    if second.engine == LanguageModel.Engine.TRANSFORMERS and second.queue != first.queue:
        return None  # it is loaded in other workers than this one
    has_pictures = any(message.images for message in request.messages)
    return None if has_pictures and not second.vision else second


def _may_be_asked_elsewhere(answer: Answer) -> bool:
    """Not what was begun, and not what a content filter stopped: another model is no way round it."""
    return bool(answer.error) and not (answer.has_begun or answer.is_final) and answer.error != FILTERED


def _note(bot: Bot, first: LanguageModel, second: LanguageModel) -> None:
    """In the audit log once a minute with a count: while a service is down this is every answer."""
    metrics.fallback(first.name)
    reason = f"{second.name} answered instead of {first.name}"
    audit.record_refusal("model.fallback_used", target=bot, reason=reason, outcome="failure")
