"""The admin of the product: bots and where they are reached, what was said, the dashboard and the playground."""

from bots.admin.bots import BotAdmin
from bots.admin.chats import ChatAdmin
from bots.admin.conversations import ConversationAdmin
from bots.admin.dead_letters import DeadLetterAdmin
from bots.admin.endpoints import EndpointAdmin
from bots.admin.feedback import FeedbackAdmin
from bots.admin.messages import MessageAdmin
from bots.admin.schedules import ScheduleAdmin
from bots.admin.usage import ModelUsageAdmin
from bots.admin.word_lists import WordListAdmin

__all__ = [
    "BotAdmin",
    "ChatAdmin",
    "ConversationAdmin",
    "DeadLetterAdmin",
    "EndpointAdmin",
    "FeedbackAdmin",
    "MessageAdmin",
    "ModelUsageAdmin",
    "ScheduleAdmin",
    "WordListAdmin",
]
