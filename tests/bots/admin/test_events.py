"""A conversation's transcript beside what the audit log tells of it."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from bots import recording
from bots.models import Message
from tests import factories


def conversation_page(question: Message) -> str:
    return reverse("admin:bots_conversation_change", args=[question.conversation_id])


def answered(text: str = "Where is the canteen?") -> Message:
    question = factories.web_question(text=text, status="delivered")
    Message.objects.create(conversation=question.conversation, role="assistant", reply_to=question, text="Upstairs.")
    recording.run()
    return question


def test_an_auditor_sees_the_events_beside_the_transcript(browser_of):
    question = answered()

    page = browser_of("auditor").get(conversation_page(question)).text

    assert "What the audit log tells" in page
    assert "message.answered" in page
    assert "not the one that was said" not in page


def test_a_text_that_was_edited_afterwards_is_marked(browser_of):
    question = answered()
    Message.objects.filter(reply_to=question).update(text="Somewhere else.")

    page = browser_of("auditor").get(conversation_page(question)).text

    assert "The text is not the one that was said." in page


def test_the_events_are_for_who_may_read_the_log(browser_of: Any):
    question = answered()

    assert "What the audit log tells" not in browser_of("operator").get(conversation_page(question)).text


def test_a_question_that_was_edited_afterwards_is_marked(browser_of):
    question = answered()
    Message.objects.filter(pk=question.pk).update(text="Where is the exit?")

    assert "The text is not the one that was said." in browser_of("auditor").get(conversation_page(question)).text
