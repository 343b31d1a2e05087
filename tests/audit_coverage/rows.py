"""Rows that are changed, deleted and acted on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from bots.models import Chat, Message, WordList
from clawdbot_site.security.models import ApiClient, IPRule, SecondFactor
from monitoring.models import Alert, AlertChannel, Silence
from tests import factories


def dead() -> Message:
    return factories.web_question(status="failed", error="no power")


def rule() -> IPRule:
    return IPRule.objects.create(action="block", network="198.51.100.0/24", scope="site")


def client_row() -> ApiClient:
    return ApiClient.objects.create_key(name="other", scopes=["chat"])[0]


def chat() -> Chat:
    return Chat.objects.create(endpoint=factories.endpoint(), chat_id="oc_1", name="Sales")


def alert() -> Alert:
    return Alert.objects.create(rule="machine.cpu", subject="host", severity="warning", summary="busy")


def silence() -> Silence:
    return Silence.objects.create(rule="machine.cpu", until=timezone.now() + timedelta(hours=1), reason="known")


def channel() -> AlertChannel:
    row = AlertChannel(name="Operators", kind="email")
    row.put("operators@example.com", "")
    row.save()
    return row


def word_list() -> WordList:
    return WordList.objects.create(name="some", text="bad")


def someone_with_a_second_factor() -> Any:
    user = get_user_model().objects.create_user(f"somebody-{get_user_model().objects.count()}")
    SecondFactor.objects.create(id=user.pk, user=user, confirmed_at=user.date_joined)
    return user


def put_away() -> Message:
    message = dead()
    message.discarded_at = message.received_at
    message.save()
    return message


def unconfirmed() -> Message:
    question = factories.web_question(status="unconfirmed")
    Message.objects.create(
        conversation=question.conversation,
        role="assistant",
        reply_to=question,
        status="unconfirmed",
        text="Hello",
        answered_at=question.received_at,
    )
    return question
