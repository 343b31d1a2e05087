from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from bots import inserting, intake, storing
from bots.models import Conversation, Message
from monitoring.ids import uuid7
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_row_is_the_one_that_the_model_would_have_stored():
    item = factories.draft(factories.endpoint(), "Hello 世界", message_id="om_a")
    accepted = intake.accept(item).result(10)

    stored = Message.objects.get(pk=accepted.message_id)
    given = {
        name: getattr(item, name) for name in ("platform", "app_id", "external_id", "sender_id", "details", "text")
    }
    usual = Message(id=item.id, conversation_id=accepted.conversation_id, role="user", **given)
    usual.received_at = stored.received_at
    assert _values(stored) == _values(usual)


def test_the_reply_address_is_stored_sealed_and_bound_to_its_row():
    item = replace(factories.draft(factories.endpoint()), session_url="https://oapi.example.com/robot?session=1")
    accepted = intake.accept(item).result(10)

    message = Message.objects.get(pk=accepted.message_id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_url FROM bots_message")
        (raw,) = cursor.fetchone()
    assert b"session=1" not in bytes(raw)
    assert message.session_url == "https://oapi.example.com/robot?session=1"


def test_a_batch_of_known_conversations_is_one_statement():
    endpoint = factories.endpoint()
    storing.store([factories.draft(endpoint, chat_id=f"c{number}") for number in range(5)])
    batch = [factories.draft(endpoint, chat_id=f"c{number}") for number in range(5)]

    with CaptureQueriesContext(connection) as queries:
        accepted = storing.store(batch)

    assert [outcome.message_id for outcome in accepted] == [item.id for item in batch]
    assert len(queries) == 1


def test_repeats_within_a_batch_are_told_from_what_is_new():
    endpoint = factories.endpoint()
    first, again = (factories.draft(endpoint, message_id="om_same") for _ in range(2))
    other = factories.draft(endpoint, message_id="om_other")

    outcomes = storing.store([first, again, other])

    assert [outcome.is_new for outcome in outcomes].count(True) == 2
    assert {outcome.message_id for outcome in outcomes} == set(Message.objects.values_list("pk", flat=True))


def test_a_batch_keeps_the_order_in_which_it_came_whatever_the_platforms_ids_are():
    endpoint = factories.endpoint()
    storing.store([factories.draft(endpoint)])
    batch = [factories.draft(endpoint, str(number), message_id=f"om_{9 - number}") for number in range(9)]

    storing.store(batch)

    in_order = Message.objects.waiting().values_list("text", flat=True)
    assert list(in_order)[1:] == [str(number) for number in range(9)]


def test_a_batch_is_stored_whole_or_not_at_all():
    endpoint = factories.endpoint()
    drafts = [factories.draft(endpoint), factories.draft(endpoint)]
    known = storing.store([factories.draft(endpoint)])[0].conversation_id

    with pytest.raises(IntegrityError), transaction.atomic():
        inserting.insert(drafts, [known, uuid7()])

    assert Message.objects.count() == 1


def test_a_conversation_that_was_deleted_meanwhile_begins_anew():
    endpoint = factories.endpoint()
    storing.store([factories.draft(endpoint)])
    Conversation.objects.all().delete()

    accepted = storing.store([factories.draft(endpoint, "again")])

    assert Message.objects.get().conversation_id == accepted[0].conversation_id


def _values(message: Message) -> dict[str, Any]:
    return {field.attname: getattr(message, field.attname) for field in Message._meta.concrete_fields}
