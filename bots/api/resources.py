"""Which resources hang below ``/api/v1/``, and where."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import BaseRouter

from bots.api.asking import AskView
from bots.api.bots import BotViewSet
from bots.api.chats import ChatViewSet
from bots.api.conversations import ConversationMessagesView, ConversationViewSet, MessageViewSet
from bots.api.credentials import CredentialViewSet
from bots.api.dead_letters import DeadLetterViewSet
from bots.api.endpoints import EndpointViewSet, PushView
from bots.api.feedback import FeedbackViewSet
from bots.api.group_robots import GroupRobotViewSet
from bots.api.language_models import LanguageModelViewSet, ModelKeyViewSet
from bots.api.people import ForgetView
from bots.api.usage import UsageViewSet
from bots.api.word_lists import WordListViewSet

urlpatterns = [
    path("bots/<slug:slug>/messages/", AskView.as_view(), name="bot-messages"),
    path("people/forget/", ForgetView.as_view(), name="forget-person"),
    path("endpoints/<uuid:pk>/push/", PushView.as_view(), name="endpoint-push"),
    path("conversations/<uuid:pk>/messages/", ConversationMessagesView.as_view(), name="conversation-messages"),
]


def register(router: BaseRouter) -> None:
    router.register("models", LanguageModelViewSet, basename="model")
    router.register("model-keys", ModelKeyViewSet, basename="model-key")
    router.register("usage", UsageViewSet, basename="usage")
    router.register("bots", BotViewSet, basename="bot")
    router.register("credentials", CredentialViewSet, basename="credential")
    router.register("endpoints", EndpointViewSet, basename="endpoint")
    router.register("group-robots", GroupRobotViewSet, basename="group-robot")
    router.register("conversations", ConversationViewSet, basename="conversation")
    router.register("messages", MessageViewSet, basename="message")
    router.register("chats", ChatViewSet, basename="chat")
    router.register("feedback", FeedbackViewSet, basename="feedback")
    router.register("word-lists", WordListViewSet, basename="word-list")
    router.register("dead-letters", DeadLetterViewSet, basename="dead-letter")
