"""The product's tables: who answers (bot.py), in which groups (chat.py), what was said (conversation.py), which files
came with it (files.py), what was sent (delivery.py), what people think of it (feedback.py), what it cost (usage.py),
who holds the platforms' long connections (listening.py), and which words are not wanted (words.py).
"""

from bots.models.bot import Bot, Endpoint
from bots.models.chat import Chat
from bots.models.conversation import Conversation, Message
from bots.models.delivery import DeliveryStep
from bots.models.feedback import Feedback
from bots.models.files import MessageFile
from bots.models.listening import LongConnection
from bots.models.usage import ModelUsage
from bots.models.words import WordList

__all__ = [
    "Bot",
    "Chat",
    "Conversation",
    "DeliveryStep",
    "Endpoint",
    "Feedback",
    "LongConnection",
    "Message",
    "MessageFile",
    "ModelUsage",
    "WordList",
]
