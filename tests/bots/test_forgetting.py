"""Old messages that go by themselves, and persons who are forgotten: what is gone, what remains, what is told."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core import serializers
from django.urls import reverse
from django.utils import timezone

from bots import forgetting, retention, storing, tidying
from bots.forgetting import Forgotten, StillAnswering
from bots.models import Conversation, DeliveryStep, Feedback, Message, MessageFile
from clawdbot_site.security.models import ApiClient
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db


def said(bot, text="canary", days=0, **values) -> Message:
    at = timezone.now() - timedelta(days=days)
    question = factories.web_question(bot, text, received_at=at, status=values.pop("status", "delivered"), **values)
    reply = Message.objects.create(
        conversation=question.conversation, role="assistant", platform="web", reply_to=question, text=f"re: {text}",
        received_at=at, status="delivered", prompt_tokens=3, details={"model": "m"},
    )  # fmt: skip
    MessageFile.objects.create(message=question, position=0, kind="document", name=f"{text}.txt", text=text)
    Feedback.objects.create(reply=reply, user_id=question.sender_id, vote="up")
    Conversation.objects.filter(pk=question.conversation_id).update(created_at=at)
    return question


def test_messages_go_after_the_days_that_the_bot_keeps_them(monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    bot, other = factories.bot(keep_messages_days=7), factories.bot()
    for number in range(5):
        said(bot, f"old {number}", days=9)
    young, waiting, kept = (
        said(bot, "young", days=6),
        said(bot, "w", days=9, status="received"),
        said(other, "x", days=99),
    )

    tidying.tidy()

    assert set(Message.objects.filter(role="user")) == {young, waiting, kept}
    assert set(Conversation.objects.all()) == {one.conversation for one in (young, waiting, kept)}
    assert MessageFile.objects.count() == Feedback.objects.count() == 3
    entries = AuditLog.objects.filter(action="messages.purged", target_id=str(bot.pk))
    assert sum(entry.changes["deleted"]["message"] for entry in entries) == 10
    assert sum(entry.changes["deleted"]["messagefile"] for entry in entries) == 5
    assert sum(entry.changes["deleted"]["conversation"] for entry in entries) == 5


def test_yesterdays_messages_stay_until_their_costs_are_counted():
    bot = factories.bot(keep_messages_days=1)
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    question = said(bot)
    Message.objects.update(received_at=midnight - timedelta(days=1))

    retention.purge()

    assert Message.objects.filter(pk=question.pk).exists()


def everything() -> str:
    """All rows of the product's tables, as one text."""
    tables = (Conversation, Message, MessageFile, Feedback, DeliveryStep)
    return "".join(serializers.serialize("json", table.objects.all()) for table in tables)


@pytest.fixture
def person():
    """One person in a chat alone and in a group, quoted by another one, with feedback, files and a push."""
    endpoint = factories.endpoint(bot=factories.bot(context_scope="chat"))
    sender = {"sender_id": "ou_canary", "sender_name": "Canary Wang"}
    alone = factories.draft(endpoint, "canary words", chat_id="oc_canary_direct", **sender)
    group = factories.draft(endpoint, "canary in group", chat_id="oc_g", chat_type="group", **sender)
    other = factories.draft(
        endpoint, "what do you mean?", chat_id="oc_g", chat_type="group", sender_id="ou_other",
        quoted=factories.quoted(group.external_id, "canary in group", "Canary Wang"),
    )  # fmt: skip
    accepted = storing.store([alone, group, other])
    Message.objects.update(status="delivered")
    for one in accepted[:2]:
        question = Message.objects.get(pk=one.message_id)
        reply = Message.objects.create(
            conversation=question.conversation, role="assistant", platform="feishu", reply_to=question,
            text="dear Canary Wang", completion_tokens=5, details={"model": "m"},
        )  # fmt: skip
        MessageFile.objects.create(message=question, position=0, kind="document", name="canary.txt", text="canary")
        Feedback.objects.create(reply=reply, user_id="ou_canary", vote="up")
    conversation = Conversation.objects.get(pk=accepted[0].conversation_id)
    Message.objects.create(conversation=conversation, role="assistant", platform="feishu", text="push to canary")
    return endpoint


def test_a_person_is_forgotten_everywhere_and_the_numbers_stay(person):
    assert "canary" in everything().lower()

    done = forgetting.forget("feishu", "ou_canary")

    assert done == Forgotten(messages=2, answers=3, files=2, conversations=1, votes=2, quotations=1)
    assert "canary" not in everything().lower()
    assert "what do you mean?" in everything()
    replies = Message.objects.filter(role="assistant", reply_to__isnull=False)
    assert [(reply.text, reply.completion_tokens, reply.details["model"]) for reply in replies] == [("", 5, "m")] * 2
    assert len(set(Message.objects.filter(replies__isnull=False).values_list("sender_id", flat=True))) == 1
    entry = AuditLog.objects.get(action="person.forgotten")
    assert entry.changes["messages"] == 2
    assert "canary" not in json.dumps(entry.changes).lower()
    assert forgetting.forget("feishu", "ou_canary") == Forgotten()


def test_who_writes_again_begins_anew(person):
    forgetting.forget("feishu", "ou_canary")

    again = factories.draft(person, "hello again", chat_id="oc_canary_direct", sender_id="ou_canary")
    conversation = Conversation.objects.create(
        bot_id=again.bot_id, source=again.source, scope_key=again.scope_key, platform="feishu"
    )

    assert conversation.messages.count() == 0


def test_nobody_is_forgotten_while_being_answered(person):
    Message.objects.filter(sender_id="ou_canary", conversation__chat_type="direct").update(status="answering")

    with pytest.raises(StillAnswering, match="1 message of this person"):
        forgetting.forget("feishu", "ou_canary")
    assert Message.objects.filter(cancel_requested_at__isnull=False).count() == 1
    assert "canary words" in everything()


def test_the_admin_asks_first_and_says_what_remains(person, client, django_user_model, settings):
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected
    client.force_login(django_user_model.objects.create_superuser("root", password="x"))
    conversation = Conversation.objects.get(chat_type="direct")
    page = reverse("admin:bots_conversation_forget_person", args=[conversation.pk])

    asked = client.get(page).content.decode()
    assert ("Canary Wang" in asked, "backups" in asked, "canary words" in everything()) == (True, True, True)
    done = client.post(page, {"confirmed": "yes"}, follow=True).content.decode()
    assert "Forgotten. Messages: 2, answers: 3, files: 2, conversations: 1." in done
    assert "canary" not in everything().lower()


@pytest.mark.parametrize(("scopes", "status"), [(["messages:write"], 200), (["messages:read", "bots:write"], 403)])
def test_a_person_is_forgotten_over_rest(person, client, scopes, status):
    key = ApiClient.objects.create_key(name="integrator", scopes=scopes)[1]
    body = {"platform": "feishu", "user_id": "ou_canary"}

    answer = client.post("/api/v1/people/forget/", body, "application/json", HTTP_AUTHORIZATION=f"Api-Key {key}")

    assert answer.status_code == status
    assert ("canary" in everything().lower()) == (status == 403)
    if status == 200:
        assert (answer.json()["messages"], len(answer.json()["remains"])) == (2, 5)
