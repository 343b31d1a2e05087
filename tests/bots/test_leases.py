from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from bots import leases
from bots.errors import LeaseLost
from bots.models import Conversation
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def conversation() -> Conversation:
    return factories.web_question().conversation


def fence_of(conversation: Conversation) -> int:
    return Conversation.objects.get(pk=conversation.pk).lease_fence


def test_a_second_claim_finds_nothing(conversation):
    with leases.hold(conversation.pk) as first, leases.hold(conversation.pk) as second:
        assert first is not None
        assert second is None


def test_a_released_conversation_can_be_claimed_again_with_a_higher_fence(conversation):
    with leases.hold(conversation.pk):
        first = fence_of(conversation)
    with leases.hold(conversation.pk):
        assert fence_of(conversation) == first + 1


def test_a_late_holder_does_not_release_the_next_ones_claim(conversation, monkeypatch):
    monkeypatch.setattr(leases, "LAPSE_S", -1.0)
    with leases.hold(conversation.pk):
        monkeypatch.setattr(leases, "LAPSE_S", 60.0)
        next_one = leases.hold(conversation.pk)
        assert next_one.__enter__() is not None

    with leases.hold(conversation.pk) as third:
        assert third is None
    next_one.__exit__(None, None, None)


def test_a_dead_workers_claim_lapses(conversation):
    lapsed = timezone.now() - timedelta(seconds=1)
    Conversation.objects.filter(pk=conversation.pk).update(lease_owner="dead", lease_fence=7, lease_until=lapsed)

    with leases.hold(conversation.pk):
        assert fence_of(conversation) == 8


def test_a_held_claim_is_renewed_for_as_long_as_it_is_held(conversation, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_S", 0.2)
    with leases.hold(conversation.pk):
        before = Conversation.objects.get(pk=conversation.pk).lease_until
        time.sleep(1.2)
        assert Conversation.objects.get(pk=conversation.pk).lease_until > before


def test_a_holder_learns_that_its_claim_was_taken(conversation, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_S", 0.2)
    cancelled = threading.Event()
    with leases.hold(conversation.pk) as lease, lease.working_on(conversation.pk, cancelled.set):
        Conversation.objects.filter(pk=conversation.pk).update(lease_owner="thief", lease_fence=99)

        assert cancelled.wait(5)
        with pytest.raises(LeaseLost):
            lease.check()
    assert Conversation.objects.get(pk=conversation.pk).lease_owner == "thief"


def test_a_stopped_message_is_cancelled_within_a_second(conversation):
    message = conversation.messages.get()
    cancelled = threading.Event()
    with leases.hold(conversation.pk) as lease, lease.working_on(message.pk, cancelled.set):
        conversation.messages.update(cancel_requested_at=timezone.now())

        assert cancelled.wait(1.5)


def test_the_watcher_outlives_a_look_and_a_clean_up_that_both_fail(conversation, monkeypatch):
    troubles = []

    def fails(*_: object) -> None:
        troubles.append(1)
        raise OperationalError("the database is away")

    cancelled = threading.Event()
    with leases.hold(conversation.pk) as lease, lease.working_on(conversation.messages.get().pk, cancelled.set):
        with monkeypatch.context() as away:
            away.setattr(leases._Watcher, "_look", fails)
            away.setattr(leases, "close_old_connections", fails)
            end = time.monotonic() + 5
            while len(troubles) < 3 and time.monotonic() < end:
                time.sleep(0.05)
        conversation.messages.update(cancel_requested_at=timezone.now())

        assert cancelled.wait(3)
