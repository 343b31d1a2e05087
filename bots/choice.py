"""Which model answers in a conversation: the bot's, or one that people chose of those the bot offers.

Only models of the bot's own worker queue can be chosen: the message is queued before its conversation is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from bots.models import Bot, Conversation
from inference.models import LanguageModel


def offered(bot: Bot) -> list[LanguageModel]:
    """The bot's own model first."""
    return [bot.model, *bot.choosable_models.filter(queue=bot.model.queue).exclude(pk=bot.model_id)]


def in_use(conversation: Conversation) -> LanguageModel:
    """One that was withdrawn since it was chosen does not answer any more. Costs a query only where one is chosen."""
    bot, chosen = conversation.bot, conversation.chosen_model
    if chosen is None or chosen.queue != bot.model.queue or not bot.choosable_models.filter(pk=chosen.pk).exists():
        return bot.model
    return chosen


def models_of_another_queue(model: LanguageModel | None, choosable: Iterable[LanguageModel]) -> list[str]:
    """The names of those that could never be chosen beside ``model``."""
    return [one.name for one in choosable if model and one.queue != model.queue]


def moderator_fault(model: LanguageModel | None, moderator: LanguageModel | None) -> str:
    """Why ``moderator`` could never be asked beside ``model``; empty where it can."""
    is_local = moderator is not None and moderator.engine == LanguageModel.Engine.TRANSFORMERS
    if moderator is None or model is None or not is_local or moderator.queue == model.queue:
        return ""
    return _("It is loaded in other workers than the bot's model. Choose one of the same worker queue, or a service.")


def choose(conversation: Conversation, name: str) -> bool:
    """Use the model of this name from now on; False where none of this name is offered."""
    wanted = next((one for one in offered(conversation.bot) if one.name.lower() == name.lower()), None)
    if wanted is None:
        return False
    conversation.chosen_model = None if wanted.pk == conversation.bot.model_id else wanted
    conversation.save(update_fields=["chosen_model"])
    return True
