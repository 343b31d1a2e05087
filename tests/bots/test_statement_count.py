"""What an ordinary text message costs the database. A change that makes it more shows here, and needs a reason."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bots import drafts, inbound, storing, turns
from tests import factories
from tests.bots.conftest import work_off

pytestmark = pytest.mark.django_db(transaction=True)
WORDS = ("SELECT", "INSERT", "UPDATE", "DELETE")
STORED, ANSWERED = 1, 14


def statements(captured: CaptureQueriesContext) -> list[str]:
    """Without the beginnings and ends of transactions."""
    return [query["sql"] for query in captured if query["sql"].startswith(WORDS)]


@pytest.mark.parametrize("chat_type", ["direct", "group"])
def test_the_door_asks_nothing_for_a_text_message(on_dingtalk, chat_type):
    endpoint = on_dingtalk()
    endpoint.credential.corp_id = "ding1"
    text = factories.incoming("Hello", chat_type=chat_type, tenant_id="ding1")

    with CaptureQueriesContext(connection) as captured:
        item = inbound.draft_of(endpoint, text)
        has_effect = inbound.has_effect(endpoint, text, item)
        inbound.act(endpoint, text, item)

    assert (statements(captured), has_effect) == ([], False)


def test_a_text_message_costs_no_more_than_it_did(on_dingtalk, says):
    endpoint = on_dingtalk()
    work_off(says(endpoint, "the first one of a conversation costs more"))
    item = drafts.draft(endpoint, factories.incoming("to be stored", chat_id="cid2"))
    storing.store([drafts.draft(endpoint, factories.incoming("before", chat_id="cid2"))])
    question = says(endpoint, "the second")

    with CaptureQueriesContext(connection) as stored:
        storing.store([item])
    with CaptureQueriesContext(connection) as answered:
        turns.work(question.conversation_id, may_answer=True)

    assert len(statements(stored)) <= STORED
    assert len(statements(answered)) <= ANSWERED
