"""Named points of the message path at which a process can be stopped, and the safeguards that can be switched off.

Nothing of this is in the product: ``install`` wraps its functions inside a process of the matrix, before it begins.
A stage is armed by a file ``armed/<stage>``. The first process that gets there with a message takes the file away,
leaves a note in ``held/`` and waits there until the note is gone, or it is killed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import Error

from bots.models import Conversation, DeliveryStep, Message
from integrations.base import SIGN_STEPS, Journal, ReplyStream, Step

HOLD_S = 5.0  # longer than the conductor needs to see the note; a hold that nobody answers only delays
PIECE_S = 0.04  # the longest a model thinks about a piece
# All that is wrapped, and the parameters that the wrappers rely on: a refactoring breaks the tool at its start.
NAMES = {
    "bots.storing:store": ("drafts",),
    "bots.leases:_claim": ("conversation_id",),
    "bots.answering:answer": ("question", "lease", "show"),
    "bots.delivery:settle": ("question", "reply", "status", "error", "journal"),
    "bots.journal:DatabaseJournal.__init__": ("self", "reply"),
    "bots.journal:DatabaseJournal.intend": ("self", "name"),
    "bots.journal:DatabaseJournal.done": ("self", "name", "remote_id"),
    "bots.journal:DatabaseJournal.refused": ("self", "name", "reason"),
    "bots.sweeping:questions": (),
    "integrations.feishu.adapter:FeishuAdapter.open_reply": (
        "self",
        "credentials",
        "target",
        "journal",
        "streaming",
        "buttons",
    ),
    "integrations.dingtalk.adapter:DingTalkAdapter.open_reply": (
        "self",
        "credentials",
        "target",
        "journal",
        "streaming",
        "buttons",
    ),
    "celery.beat:Scheduler.apply_async": ("self", "entry", "producer", "advance", "kwargs"),
}

Call = Callable[..., Any]


class Points:
    """The failpoints of one process; ``folder`` is shared with the conductor."""

    def __init__(self, folder: Path) -> None:
        self._armed, self._held = folder / "armed", folder / "held"
        self._sends = os.open(folder / "sends.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._holding: dict[UUID, str] = {}  # question -> who sends its answer in this process

    def reach(self, stage: str, subject: Callable[[], str | None]) -> None:
        """Wait here if the stage is armed and ``subject`` names a message that is in it."""
        flag = self._armed / stage
        if not flag.exists() or (message := _asked(subject)) is None:
            return
        try:
            flag.unlink()
        except FileNotFoundError:
            return  # another process was first
        self._wait(stage, message)

    def _wait(self, stage: str, message: str) -> None:
        note = self._held / f"{os.getpid()}-{threading.get_ident()}"
        draft = note.with_suffix(".draft")
        draft.write_text(json.dumps({"stage": stage, "pid": os.getpid(), "message": message}), "utf-8")
        draft.rename(note)
        end = time.monotonic() + HOLD_S
        while note.exists() and time.monotonic() < end:
            time.sleep(0.01)
        note.unlink(missing_ok=True)

    def begins(self, question_id: UUID, reply_id: str, fence: int) -> None:
        """Note that this holder of the reply is about to send."""
        self._holding[question_id] = holder = f"{reply_id} {os.getpid()} {fence}"
        os.write(self._sends, f"B {holder}\n".encode())

    def forgets(self, question_id: UUID | None) -> None:
        """A new try to send begins: the former one of this process never came to its end."""
        self._holding.pop(question_id, None)

    def ends(self, question_id: UUID) -> None:
        """Note that the outcome is in the database."""
        if holder := self._holding.pop(question_id, None):
            os.write(self._sends, f"E {holder}\n".encode())


def _asked(subject: Callable[[], str | None]) -> str | None:
    try:
        return subject()
    except Error:  # the database is being killed: nobody can say, so nobody is stopped
        return None


def install(folder: Path, without: str = "") -> None:
    """Wrap the product in this process, with none or one of the SAFEGUARDS off. Raises where NAMES are wrong."""
    check_names()
    for name, wrapper in (*_ABLATIONS.get(without, {}).items(), *_stages(Points(folder)).items()):
        _wrap(name, wrapper)


def check_names() -> None:
    """Raises AttributeError, TypeError for what the product no longer has."""
    for name, parameters in NAMES.items():
        owner, attribute = _place(name)
        found = tuple(inspect.signature(getattr(owner, attribute)).parameters)
        if found != parameters:
            raise TypeError(f"{name} has the parameters {found}; tests/chaos/failpoints.py expects {parameters}")


def _wrap(name: str, wrapper: Callable[[Call], Call]) -> None:
    owner, attribute = _place(name)
    setattr(owner, attribute, wrapper(getattr(owner, attribute)))


def _place(name: str) -> tuple[Any, str]:
    module, _, path = name.partition(":")
    *owners, attribute = path.split(".")
    found: Any = importlib.import_module(module)
    for owner in owners:
        found = getattr(found, owner)
    return found, attribute


# -- the stages --


def _stages(points: Points) -> dict[str, Callable[[Call], Call]]:
    def storing(store: Call) -> Call:
        def wrapped(drafts: Any) -> Any:
            points.reach("before-store", lambda: str(drafts[0].external_id))
            stored = store(drafts)
            points.reach("after-store", lambda: str(drafts[0].external_id))
            return stored

        return wrapped

    def claiming(claim: Call) -> Call:
        def wrapped(conversation_id: Any) -> Any:
            points.reach("before-claim", lambda: _waiting(conversation_id=conversation_id))
            return claim(conversation_id)

        return wrapped

    def answering(answer: Call) -> Call:
        def wrapped(question: Message, lease: Any, show: Callable[[str], None]) -> Any:
            def thinking(text: str) -> None:
                time.sleep(random.uniform(0, PIECE_S))
                show(text)
                points.reach("in-model", lambda: question.external_id)

            answered = answer(question, lease, thinking)
            points.reach("after-model", lambda: question.external_id)
            return answered

        return wrapped

    def holding(begin: Call) -> Call:
        def wrapped(journal: Any, reply: Message) -> None:
            points.forgets(reply.reply_to_id)
            begin(journal, reply)

        return wrapped

    def intending(intend: Call) -> Call:
        def wrapped(journal: Any, name: str) -> Step:
            if journal.reply.reply_to_id:
                points.begins(journal.reply.reply_to_id, journal.reply_id, journal.fence)
            step: Step = intend(journal, name)
            if name not in SIGN_STEPS:
                points.reach("before-send", lambda: _question_of(journal))
            return step

        return wrapped

    def confirming(confirm: Call) -> Call:
        def wrapped(journal: Any, name: str, *args: str) -> None:
            if name not in SIGN_STEPS:
                points.reach("after-send", lambda: _question_of(journal))
            confirm(journal, name, *args)

        return wrapped

    def settling(settle: Call) -> Call:
        def wrapped(question: Message, *args: Any, **kwargs: Any) -> None:
            settle(question, *args, **kwargs)
            points.ends(question.pk)

        return wrapped

    def opening(open_reply: Call) -> Call:
        def wrapped(adapter: Any, credentials: Any, target: Any, journal: Any, **how: Any) -> ReplyStream:
            stream: ReplyStream = open_reply(adapter, credentials, target, journal, **how)
            show = stream.show

            def shown(text: str) -> None:
                show(text)
                points.reach("card-stream", lambda: _question_of(journal))

            if how["streaming"]:
                stream.show = shown
            return stream

        return wrapped

    def scheduling(apply_async: Call) -> Call:
        def wrapped(scheduler: Any, entry: Any, *args: Any, **kwargs: Any) -> Any:
            points.reach("before-sweep", _waiting)
            return apply_async(scheduler, entry, *args, **kwargs)

        return wrapped

    return {
        "bots.storing:store": storing,
        "bots.leases:_claim": claiming,
        "bots.answering:answer": answering,
        "bots.journal:DatabaseJournal.intend": intending,
        "bots.journal:DatabaseJournal.done": confirming,
        "bots.journal:DatabaseJournal.refused": confirming,
        "bots.journal:DatabaseJournal.__init__": holding,
        "bots.delivery:settle": settling,
        "integrations.feishu.adapter:FeishuAdapter.open_reply": opening,
        "integrations.dingtalk.adapter:DingTalkAdapter.open_reply": opening,
        "celery.beat:Scheduler.apply_async": scheduling,
    }


def _waiting(**where: Any) -> str | None:
    return Message.objects.waiting().filter(**where).values_list("external_id", flat=True).first()


def _question_of(journal: Journal) -> str | None:
    replies = Message.objects.filter(pk=journal.reply_id)
    return replies.values_list("reply_to__external_id", flat=True).first()


# -- the safeguards, switched off. The constraint is dropped in the database instead. --


def _always_free(claim: Call) -> Call:
    def wrapped(conversation_id: Any) -> Any:
        Conversation.objects.filter(pk=conversation_id).update(lease_until=None)
        return claim(conversation_id)

    return wrapped


def _knows_nothing(begin: Call) -> Call:
    """Each holder begins as if nothing had ever been sent."""

    def wrapped(journal: Any, reply: Message) -> None:
        DeliveryStep.objects.filter(message_id=reply.pk).delete()
        begin(journal, reply)

    return wrapped


def _finds_nobody(_questions: Call) -> Call:
    return lambda: iter(())


_ABLATIONS: dict[str, dict[str, Callable[[Call], Call]]] = {
    "lease": {"bots.leases:_claim": _always_free},
    "intent": {"bots.journal:DatabaseJournal.__init__": _knows_nothing},
    "sweeper": {"bots.sweeping:questions": _finds_nobody},
}
