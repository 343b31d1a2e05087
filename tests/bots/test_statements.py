from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from bots import statements
from bots.models import DeliveryStep, Message
from integrations.models import PlatformCredential
from tests import factories

pytestmark = pytest.mark.django_db


def _reply() -> Message:
    question = factories.web_question()
    return Message(conversation=question.conversation, reply_to=question, role="assistant", platform="web", text="Hi")


def test_an_inserted_row_is_the_one_that_save_would_have_stored():
    row = _reply()
    row.timings, row.session_url = {"queue": 3}, "https://secret.example.com"

    statements.insert(row)

    stored = Message.objects.get(pk=row.pk)
    assert not row._state.adding
    for field in Message._meta.concrete_fields:
        if field.name != "session_url":
            assert getattr(stored, field.attname) == getattr(row, field.attname)
    assert stored.session_url == "https://secret.example.com"


def test_a_row_whose_key_the_database_makes_can_be_inserted():
    reply = _reply()
    statements.insert(reply)
    statements.insert(DeliveryStep(message=reply, name="part-1", key="k", fence=1, first_tried_at=timezone.now()))

    assert DeliveryStep.objects.get(message=reply).name == "part-1"


def test_what_breaks_a_constraint_is_not_inserted():
    first = _reply()
    statements.insert(first)
    second = Message(conversation=first.conversation, reply_to=first.reply_to, role="assistant", platform="web")

    with pytest.raises(IntegrityError), transaction.atomic():
        statements.insert(second)

    assert second._state.adding
    assert Message.objects.filter(role="assistant").get() == first


@pytest.mark.parametrize(("allowed", "changed"), [(("received", "answering"), 1), (("failed",), 0)])
def test_an_update_changes_rows_that_fulfil_the_conditions(allowed, changed):
    question, other = factories.web_question(), factories.web_question()
    later = timezone.now() + timedelta(seconds=5)
    values = {"details": {"kind": "text", "n": 1}, "next_attempt_at": later, "error": "x"}

    found = statements.update(Message, values, {"id": question.pk, "status": allowed})

    question.refresh_from_db()
    other.refresh_from_db()
    assert found == changed
    assert (question.error, question.next_attempt_at, question.details.get("n")) == (
        ("x", later, 1) if changed else ("", None, None)
    )
    assert other.error == ""


def test_a_secret_cannot_be_part_of_an_update():
    with pytest.raises(TypeError):
        statements.update(PlatformCredential, {"app_secret": "plain"}, {"id": factories.credential().pk})
