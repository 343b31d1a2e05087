"""Celery's entry points. A task is a doorbell: run twice or never, the database and the lease decide what happens."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.utils import timezone

from bots import costs, doorbell, pushes, recording, sweeping, tidying, turns, unfinished
from bots import workers as workers  # its signal handlers belong to every worker process
from integrations import quota, secret_change
from monitoring.rollups import keeping


@shared_task(queue="inference")
def answer_conversation(conversation_id: str) -> None:
    """Answer what waits in one conversation, oldest first. A leased or empty conversation is left alone."""
    turns.work(UUID(conversation_id), may_answer=True)


@shared_task(queue="delivery")
def deliver_reply(conversation_id: str) -> None:
    """Deliver what is stored already: an answer, a push. What must be answered first is rung for elsewhere."""
    turns.work(UUID(conversation_id), may_answer=False)
    pushes.work(UUID(conversation_id))


@shared_task(queue="default")
def sweep() -> None:
    """Ring again for everything that waits and that nobody holds: lost doorbells, dead workers, due retries."""
    keeping.note(swept_at=timezone.now().isoformat())
    room = doorbell.Room()
    for conversation_id, queue, needs_model in sweeping.questions():
        if room.takes(queue if needs_model else sweeping.DELIVERY):
            doorbell.ring(conversation_id, queue, needs_answer=needs_model)
    for conversation_id in sweeping.due_pushes():
        if room.takes(sweeping.DELIVERY):
            doorbell.ring(conversation_id, sweeping.DELIVERY, needs_answer=False)


@shared_task(queue="default")
def record_turns() -> None:
    """Write into the audit log what bots have done since the last time."""
    recording.catch_up()


@shared_task(queue="default")
def review_quotas() -> None:
    """Alerts of the platforms' monthly quotas: open those that are due, close those of a past month."""
    quota.review()


@shared_task(queue="default")
def retire_secrets() -> None:
    """Retire old secrets of apps whose new ones are proved and whose time is up."""
    secret_change.retire_due()


@shared_task(queue="delivery")
def close_cards() -> None:
    """Close the cards that nobody will come back to."""
    unfinished.close_all()


@shared_task(queue="default")
def tidy() -> None:
    """What is kept for a while only goes; what is new comes into the admin's lists."""
    tidying.tidy()


@shared_task(queue="default")
def count_costs() -> None:
    """What bots and models used yesterday and today."""
    costs.count_recent()
