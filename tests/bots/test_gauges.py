"""The figures by which machines are added: what waits, since when, and for which queue."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from bots import gauges
from bots.models import Conversation, Message
from tests import factories

pytestmark = pytest.mark.django_db


def asked(age_s: float, queue: str = "inference", **values: object) -> Message:
    bot = factories.bot(model=factories.model(queue=queue))
    return factories.web_question(bot, received_at=timezone.now() - timedelta(seconds=age_s), **values)


def rounded(ages: dict[str, float]) -> dict[str, int]:
    return {queue: round(age / 10) * 10 for queue, age in ages.items()}


def test_the_age_is_that_of_the_oldest_question_of_each_queue():
    asked(30)
    asked(90)
    asked(500, queue="gpu2")
    asked(40, status="answered")
    asked(9000, status="delivered")

    assert rounded(gauges.queue_oldest_s()) == {"inference": 90, "gpu2": 500, "delivery": 40}
    assert gauges.queue_depth() == {"inference": 2.0, "gpu2": 1.0, "delivery": 1.0}


def test_what_is_being_answered_does_not_wait_unless_its_worker_is_gone():
    held, lost = asked(300, status="answering"), asked(60, status="answering")
    now = timezone.now()
    Conversation.objects.filter(pk=held.conversation_id).update(lease_until=now + timedelta(seconds=10))
    Conversation.objects.filter(pk=lost.conversation_id).update(lease_until=now - timedelta(seconds=10))

    assert rounded(gauges.queue_oldest_s()) == {"inference": 60, "delivery": 0}


def test_a_retry_by_hand_waits_since_then():
    retried_at = timezone.now() - timedelta(seconds=20)
    asked(3 * 86_400, details={"retried_at": retried_at.isoformat()})

    assert rounded(gauges.queue_oldest_s()) == {"inference": 20, "delivery": 0}


def test_nothing_waits():
    assert gauges.queue_oldest_s() == {"inference": 0.0, "delivery": 0.0}
