"""Chat groups and feedback in the admin."""

from __future__ import annotations

import pytest
from django.urls import reverse

from bots.models import Chat, Endpoint, Feedback, Message, MessageFile
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db
GROUPS, FEEDBACK, MESSAGES = (
    "admin:bots_chat_changelist",
    "admin:bots_feedback_changelist",
    "admin:bots_message_changelist",
)


def answer(text: str, *votes: str) -> Message:
    question = factories.web_question(text=f"About {text}?")
    said = {"conversation": question.conversation, "role": "assistant", "reply_to": question}
    reply = Message.objects.create(text=text, **said)
    for number, vote in enumerate(votes):
        Feedback.objects.create(reply=reply, user_id=f"ou_{number}", vote=vote)
    return reply


def listed(response) -> set[str]:
    return {str(row.pk) for row in response.context["cl"].result_list}


def test_a_policy_is_changed_in_the_list_and_reaches_the_door(browser):
    chat = Chat.objects.create(endpoint=factories.endpoint(), chat_id="oc_1", name="Sales")
    row = {"form-0-id": str(chat.pk), "form-0-group_policy": "silent", "_save": "Save"}
    counts = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1}

    browser.post(reverse(GROUPS), {**row, **counts})

    assert Endpoint.objects.get().chat_policies == {"oc_1": "silent"}
    assert AuditLog.objects.filter(action="chat.changed", target_id=str(chat.pk)).count() == 1


def test_groups_that_wrote_are_found_by_a_button(browser):
    place = factories.endpoint()
    question = factories.web_question(place.bot)
    type(question.conversation).objects.update(endpoint=place, chat_type="group", chat_id="oc_7")

    page = browser.get(reverse("admin:bots_chat_find"), follow=True)

    assert "1 new group was found." in page.content.decode()
    assert [chat.chat_id for chat in Chat.objects.all()] == ["oc_7"]


def test_feedback_is_filtered_by_vote(browser):
    good, bad = answer("good", "up"), answer("bad", "down")

    page = browser.get(reverse(FEEDBACK), {"vote": "down"})

    assert listed(page) == {str(bad.feedback.get().pk)}
    assert "About bad?" in page.content.decode()
    assert listed(browser.get(reverse(FEEDBACK))) == {str(one.feedback.get().pk) for one in (good, bad)}


def test_answers_are_filtered_by_what_people_think_of_them(browser):
    answer("good", "up")
    mixed = answer("mixed", "up", "down")
    answer("silent")

    assert listed(browser.get(reverse(MESSAGES), {"feedback": "down"})) == {str(mixed.pk)}


def test_a_message_shows_its_files_and_its_feedback(browser):
    reply = answer("mixed", "up", "down")
    MessageFile.objects.create(message=reply.reply_to, position=0, kind="document", name="a.pdf", problem="encrypted")

    page = browser.get(reverse("admin:bots_message_change", args=[reply.reply_to_id])).content.decode()

    assert "a.pdf (encrypted)" in page
    assert "ou_0: helpful, ou_1: not helpful" in page


@pytest.mark.parametrize("name", ["change", "delete"])
def test_feedback_is_nobodys_to_change(browser, name):
    given = answer("good", "up").feedback.get()

    response = browser.post(reverse(f"admin:bots_feedback_{name}", args=[given.pk]), {"post": "yes", "vote": "down"})

    assert response.status_code == 403
    assert Feedback.objects.get().vote == "up"
