"""Wakes a worker. Nothing depends on it: a lost ring is made good by the sweeper.

Rings leave by a thread of their own, so that a broker that is down costs the caller nothing (measured: ``delay`` blocks
up to 6 s then).
"""

from __future__ import annotations

import logging
import queue
import threading
from functools import cache
from typing import Any
from uuid import UUID

from celery import current_app
from kombu.exceptions import ChannelError

from monitoring.ids import uuid7

logger = logging.getLogger(__name__)
ANSWER, DELIVER = "bots.tasks.answer_conversation", "bots.tasks.deliver_reply"
MOST_WAITING = 10_000
BATCH = 64
MOST_QUEUED = 200

_rings: queue.Queue[tuple[str, str, str]] = queue.Queue(MOST_WAITING)
_start = threading.Lock()
_threads: list[threading.Thread] = []


def ring(conversation_id: UUID, queue_name: str, *, needs_answer: bool = True) -> None:
    """Ask a worker to look at a conversation. Never blocks, never raises."""
    task, name = (ANSWER, queue_name) if needs_answer else (DELIVER, "delivery")
    try:
        _rings.put_nowait((task, name, str(conversation_id)))
    except queue.Full:
        return  # the broker is down for long: the sweeper will ring
    with _start:
        if not _threads:
            _threads.append(threading.Thread(target=_ring_all, name="doorbell", daemon=True))
            _threads[0].start()


def _all_that_wait() -> list[tuple[str, str, str]]:
    """At least one; those that one commit let ring leave in one round trip."""
    waiting = [_rings.get()]
    while len(waiting) < BATCH and not _rings.empty():
        waiting.append(_rings.get())
    return waiting


def _send(producer: Any, rings: list[tuple[str, str, str]]) -> None:
    """Straight into the queues: ``send_task`` would route, declare and write each envelope anew (twice the cost)."""
    with producer.batch():
        for task, queue_name, conversation_id in rings:
            headers, properties, body = _message(task, conversation_id)
            producer.publish(
                body, exchange="", routing_key=queue_name, serializer="json", headers=headers, **properties
            )


def _message(task: str, conversation_id: str) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Celery's message of a task, of which only the ids are new."""
    headers, properties, (_, kwargs, options) = _envelope(task)
    task_id = uuid7().hex
    own = {"id": task_id, "root_id": task_id, "argsrepr": f"('{conversation_id}',)"}
    return headers | own, properties | {"correlation_id": task_id}, ([conversation_id], kwargs, options)


@cache
def _envelope(task: str) -> tuple[dict[str, Any], dict[str, Any], Any]:
    made = current_app.amqp.create_task_message(uuid7().hex, task, ignore_result=True)
    return made.headers, made.properties, made.body


def _ring_all() -> None:
    while True:
        try:
            with current_app.producer_or_acquire() as producer:  # kept while it works: taking one costs half a ring
                while True:
                    _send(producer, _all_that_wait())
        except Exception as error:  # noqa: BLE001  (the one who rings must outlive whatever the broker does)
            reason = f"{type(error).__name__}: {error}"[:200]
            logger.warning("the doorbell did not ring; the sweeper will", extra={"reason": reason})


class Room:
    """How many more rings the sweeper may add: a queue that nobody serves must not grow without end."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def takes(self, queue_name: str) -> bool:
        if queue_name not in self._left:
            self._left[queue_name] = MOST_QUEUED - _length(queue_name)
        self._left[queue_name] -= 1
        return self._left[queue_name] >= 0


def _length(queue_name: str) -> int:
    """Of the broker's queue; as if it were full where the broker does not say."""
    try:
        with current_app.connection_or_acquire() as connection:
            return int(connection.default_channel.queue_declare(queue=queue_name, passive=True).message_count)
    except ChannelError:
        return 0  # an empty queue does not exist
    except Exception as error:  # noqa: BLE001  (whatever the broker does, the next sweep comes)
        logger.warning("the sweeper cannot ask the broker", extra={"reason": f"{type(error).__name__}: {error}"[:200]})
        return MOST_QUEUED
