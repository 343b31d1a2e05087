"""The product's tables: who answers (bot.py), what was said (conversation.py), what was sent (delivery.py)."""

from bots.models.bot import Bot, Endpoint
from bots.models.conversation import Conversation, Message
from bots.models.delivery import DeliveryStep

__all__ = ["Bot", "Conversation", "DeliveryStep", "Endpoint", "Message"]
