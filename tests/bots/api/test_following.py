"""Following an answer whose worker was replaced: nothing is shown twice."""

from __future__ import annotations

import asyncio

import pytest

from bots.following import Piece, Settled, follow
from bots.models import Message
from integrations.web import live
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def question(db: None) -> Message:
    return factories.web_question(status="answering")


@pytest.mark.parametrize(
    ("again", "pieces"),
    [("one two three", ["one ", "two three"]), ("other words", ["one "])],
)
async def test_what_a_second_worker_writes_goes_on_from_what_was_shown(question, again, pieces):
    message_id = str(question.pk)
    live.publish(message_id, "one ", 0)
    events = follow(question.pk, 20)
    shown = [await anext(events)]

    live.restart(message_id)
    live.publish(message_id, again, 0)
    following = asyncio.ensure_future(_rest(events))
    await asyncio.sleep(0.3)
    await _settle(question, again)
    shown += await following

    assert [event.text for event in shown if isinstance(event, Piece)] == pieces
    assert isinstance(shown[-1], Settled)
    assert shown[-1].text == again


async def _rest(events):
    return [event async for event in events]


async def _settle(question: Message, text: str) -> None:
    await question.replies.acreate(
        conversation_id=question.conversation_id, role="assistant", platform="web", text=text, status="delivered"
    )
    await Message.objects.filter(pk=question.pk).aupdate(status="delivered")
    live.settle(str(question.pk))
