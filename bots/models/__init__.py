"""The product's tables: who answers (bot.py), what was said (conversation.py), what was sent (delivery.py), and who
holds the platforms' long connections (listening.py), and what it cost (usage.py).
"""

from bots.models.bot import Bot, Endpoint
from bots.models.conversation import Conversation, Message
from bots.models.delivery import DeliveryStep
from bots.models.listening import LongConnection
from bots.models.usage import ModelUsage

__all__ = ["Bot", "Conversation", "DeliveryStep", "Endpoint", "LongConnection", "Message", "ModelUsage"]
