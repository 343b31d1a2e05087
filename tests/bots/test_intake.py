from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from bots import drafts, intake
from bots.errors import NotStored
from bots.models import Conversation, Message
from integrations.values import Mention
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_message_is_stored_with_its_conversation():
    endpoint = factories.endpoint()

    accepted = intake.accept(factories.draft(endpoint, "Hello", message_id="om_a")).result(10)

    message = Message.objects.get()
    assert (message.pk, message.conversation_id) == (accepted.message_id, accepted.conversation_id)
    assert (message.text, message.status, message.external_id) == ("Hello", "received", "om_a")
    assert message.conversation.endpoint == endpoint
    assert accepted.is_new


@pytest.mark.rule("W6")
def test_a_hundred_parallel_copies_become_one_row():
    endpoint = factories.endpoint()
    copies = [factories.draft(endpoint, message_id="om_same") for _ in range(100)]

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(lambda copy: intake.accept(copy).result(30), copies))

    assert Message.objects.count() == 1
    assert len({outcome.message_id for outcome in outcomes}) == 1
    assert [outcome.is_new for outcome in outcomes].count(True) == 1


@pytest.mark.rule("W6")
def test_the_same_message_id_of_another_app_is_another_message():
    intake.accept(factories.draft(factories.endpoint(), message_id="om_same")).result(10)
    intake.accept(factories.draft(factories.endpoint(), message_id="om_same")).result(10)

    assert Message.objects.count() == 2


def test_messages_keep_the_order_in_which_they_were_accepted():
    endpoint = factories.endpoint()

    for number in range(20):
        intake.accept(factories.draft(endpoint, str(number))).result(10)

    in_order = Message.objects.waiting().values_list("text", flat=True)
    assert list(in_order) == [str(number) for number in range(20)]


def test_one_bad_row_does_not_cost_its_neighbours_their_places():
    endpoint = factories.endpoint()
    good, bad = factories.draft(endpoint, "good"), factories.draft(endpoint, "bad")
    broken = drafts.Draft(**{**_fields(bad), "platform": "x" * 20_000 if _checks_lengths() else None})
    gate = threading.Event()
    _hold_the_writer(gate, endpoint)

    futures = [intake.accept(item) for item in (good, broken)]
    gate.set()

    assert futures[0].result(10).is_new
    with pytest.raises(NotStored):
        futures[1].result(10)
    assert "good" in Message.objects.values_list("text", flat=True)


def _fields(item: drafts.Draft) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}


def _checks_lengths() -> bool:
    return connection.vendor == "postgresql"


def _hold_the_writer(gate: threading.Event, endpoint: object) -> None:
    """Make the writer wait in a commit callback, so that what follows gathers into one batch."""
    first = intake.accept(factories.draft(endpoint, "first"))
    first.add_done_callback(lambda _: gate.wait(5))
    first.result(10)


def test_a_caller_whose_loop_closes_in_between_ends_nobody_elses_storing(monkeypatch):
    endpoint, loop = factories.endpoint(), asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    monkeypatch.setattr(loop, "is_closed", lambda: False)  # as it was a moment ago

    intake._writer.put(intake._Waiting(factories.draft(endpoint, "left"), future, loop))
    accepted = [intake.accept(factories.draft(endpoint, text)) for text in ("beside", "later")]

    assert [one.result(10).is_new for one in accepted] == [True, True]
    assert sorted(Message.objects.values_list("text", flat=True)) == ["beside", "later", "left"]


@pytest.mark.parametrize(
    ("scope", "same"), [("sender", False), ("chat", True), ("thread", False)], ids=["sender", "chat", "thread"]
)
def test_the_bots_scope_decides_who_shares_a_context(scope, same):
    endpoint = factories.endpoint(bot=factories.bot(context_scope=scope))

    for sender, thread in (("ou_1", "t1"), ("ou_2", "t2")):
        item = factories.draft(
            endpoint, chat_id="oc_g", chat_type="group", sender_id=sender, thread_id=thread, is_addressed=True
        )
        intake.accept(item).result(10)

    assert Conversation.objects.count() == (1 if same else 2)


def test_a_direct_chat_and_a_group_never_share_a_context():
    endpoint = factories.endpoint(bot=factories.bot(context_scope="chat"))

    intake.accept(factories.draft(endpoint, chat_id="oc_1")).result(10)
    intake.accept(factories.draft(endpoint, chat_id="oc_1", chat_type="group")).result(10)

    assert Conversation.objects.count() == 2


def test_a_group_message_to_somebody_else_is_not_stored():
    endpoint = factories.endpoint(credential=factories.credential(own_id="ou_bot"))
    ben = Mention("@_user_1", "ou_ben", "Ben")

    item = drafts.draft(endpoint, factories.incoming("hey @_user_1", chat_type="group", mentions=(ben,)))

    assert item is None


def test_the_bots_own_mention_is_not_part_of_the_question():
    endpoint = factories.endpoint(credential=factories.credential(own_id="ou_bot"))
    mentions = (Mention("@_user_1", "ou_bot", "Bot"), Mention("@_user_10", "ou_ben", "Ben"))

    item = drafts.draft(
        endpoint, factories.incoming("@_user_1 ask @_user_10", chat_type="group", mentions=mentions, is_addressed=None)
    )

    assert item is not None
    assert item.text == "ask @Ben"


def test_a_bot_that_answers_everything_takes_unaddressed_group_messages():
    endpoint = factories.endpoint(bot=factories.bot(group_policy="all"))

    item = drafts.draft(endpoint, factories.incoming(chat_type="group", is_addressed=False))

    assert item is not None


def test_order_does_not_rest_on_a_hosts_clock(monkeypatch):
    endpoint = factories.endpoint()
    ahead, behind = timezone.now() + timedelta(hours=1), timezone.now() - timedelta(hours=1)

    for text, clock in (("first", ahead), ("second", behind)):
        monkeypatch.setattr(timezone, "now", lambda clock=clock: clock)
        intake.accept(factories.draft(endpoint, text)).result(10)

    assert list(Message.objects.waiting().values_list("text", flat=True)) == ["first", "second"]
