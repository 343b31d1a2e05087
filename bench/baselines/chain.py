"""A bare Celery task with the four database steps of an answer: claim, mark, store the reply, settle.

    python -m bench.baselines.chain COUNT    rings for COUNT questions; prints how long until the last is settled

A worker of the site's shape runs it in one of two ways: with Celery as it comes (`celery -A bench.baselines.chain`),
which opens a database connection for each task, or with the site's (`-A clawdbot_site -I bench.baselines.chain`).
"""

from __future__ import annotations

import json
import sys
import time

import django
from celery import Celery, shared_task
from django.conf import settings

django.setup()

from bots.models import Bot, Conversation, Message

QUEUE = "bare"
PATIENCE_S = 120.0
app = Celery("bare", broker=settings.REDIS_URL)
app.conf.task_ignore_result = True


@shared_task(name="bench.answer", queue=QUEUE)  # named: run as a program, this module is __main__
def answer(conversation_id: str, question_id: str) -> None:
    claimed = Conversation.objects.filter(pk=conversation_id, lease_owner="").update(lease_owner="bare")
    if not claimed:
        raise RuntimeError("nobody else claims this conversation")
    questions = Message.objects.filter(pk=question_id)
    questions.update(status=Message.Status.ANSWERING)
    Message.objects.create(
        conversation_id=conversation_id,
        reply_to_id=question_id,
        role=Message.Role.ASSISTANT,
        status=Message.Status.ANSWERED,
        platform="dingtalk",
        text="echo: a bare task",
    )
    questions.update(status=Message.Status.DELIVERED)


def main(count: int) -> None:
    app.set_default()
    pairs = _questions(count)
    began = time.monotonic()
    for conversation_id, question_id in pairs:
        answer.delay(conversation_id, question_id)
    _wait([question_id for _, question_id in pairs])
    print(json.dumps({"count": count, "seconds": time.monotonic() - began}))


def _questions(count: int) -> list[tuple[str, str]]:
    """A conversation for each: the bare task has no lease to wait for."""
    bot = Bot.objects.filter(slug__startswith="bench-").earliest("created_at")
    place = {"bot": bot, "platform": "dingtalk", "source": f"bare-{time.time_ns()}"}
    made = Conversation.objects.bulk_create(Conversation(**place, scope_key=str(n)) for n in range(count))
    role = Message.Role.USER
    asked = Message.objects.bulk_create(Message(conversation=c, role=role, platform="dingtalk", text="?") for c in made)
    return [(str(message.conversation_id), str(message.pk)) for message in asked]


def _wait(question_ids: list[str]) -> None:
    """Raises TimeoutError. Looks at the newest first, which is nearly always the last to be settled."""
    open_ones = Message.objects.filter(pk__in=question_ids).exclude(status=Message.Status.DELIVERED)
    deadline = time.monotonic() + PATIENCE_S
    last = Message.objects.filter(pk=question_ids[-1], status=Message.Status.DELIVERED)
    while not last.exists() or open_ones.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the bare task did not settle all questions")
        time.sleep(0.02)


if __name__ == "__main__":
    main(int(sys.argv[1]))
