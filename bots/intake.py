"""The one way in: every door hands its message here, and it is durable before anybody is told so.

One writer thread a process stores all that waits (at most BATCH) in one transaction, without a timer: while one batch
commits, the next gathers. The doorbell rings after the commit.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models.functions import Now

from bots import backlog, connections, doorbell
from bots.commands import command_in
from bots.errors import Busy, NotStored
from bots.models import Bot, Conversation, Endpoint, Message
from integrations.base import IncomingMessage
from integrations.mentions import resolve
from monitoring.ids import uuid7

logger = logging.getLogger(__name__)
BATCH = 64
MOST_WAITING = 2_000  # more than this and the platform is told to come again


@dataclass(frozen=True, slots=True)
class Draft:
    """A message on its way into the database, and the conversation it belongs to."""

    bot_id: UUID
    queue: str
    platform: str
    source: str
    scope_key: str
    text: str
    app_id: str = ""
    external_id: str = ""  # empty: cannot be a repeat
    endpoint_id: UUID | None = None
    chat_type: str = "direct"
    chat_id: str = ""
    sender_id: str = ""
    sender_name: str = ""
    session_url: str = field(default="", repr=False)
    most_waiting: int = 0  # of the bot; 0: no limit
    details: dict[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)

    @property
    def place(self) -> Place:
        return self.bot_id, self.source, self.scope_key


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a draft. ``is_new`` is False for a repeat: then the ids are those of the first one."""

    message_id: UUID
    conversation_id: UUID
    is_new: bool


def draft(endpoint: Endpoint, incoming: IncomingMessage) -> Draft | None:
    """What to store of a platform's message; None when it is not meant for the bot."""
    bot, credential = endpoint.bot, endpoint.credential
    text, is_addressed = incoming.text, incoming.is_addressed
    if incoming.mentions and credential.own_id:
        text, is_mentioned = resolve(text, incoming.mentions, credential.own_id)
        is_addressed = is_mentioned or incoming.target.chat_type == "direct"
    if bot.group_policy == Bot.GroupPolicy.ALL:
        is_addressed = True if is_addressed is False else is_addressed
    if is_addressed is False:
        return None
    target = incoming.target
    command = command_in(text) if incoming.kind == "text" else None
    return Draft(
        bot_id=bot.pk,
        queue=bot.model.queue,
        platform=credential.platform,
        source=endpoint.pk.hex,
        scope_key=scope_key(bot, incoming),
        text=text,
        app_id=credential.app_id,
        external_id=incoming.message_id,
        endpoint_id=endpoint.pk,
        chat_type=target.chat_type,
        chat_id=target.chat_id,
        sender_id=incoming.sender_id,
        sender_name=incoming.sender_name,
        session_url=target.webhook_url,
        most_waiting=bot.max_waiting,
        details={
            "kind": "command" if command else incoming.kind,
            **({"command": command} if command else {}),
            "is_addressed": is_addressed,
            "mentions": [asdict(mention) for mention in incoming.mentions],
            "attachments": [asdict(attachment) for attachment in incoming.attachments],
            "target": {name: value for name, value in asdict(target).items() if name != "webhook_url"},
        },
    )


def scope_key(bot: Bot, incoming: IncomingMessage) -> str:
    """Whose words share a context. A direct chat never shares with a group."""
    target = incoming.target
    if target.chat_type == "direct":
        return f"direct:{target.chat_id or incoming.sender_id}"
    if bot.context_scope == Bot.ContextScope.CHAT:
        return f"chat:{target.chat_id}"
    if bot.context_scope == Bot.ContextScope.THREAD and target.thread_id:
        return f"thread:{target.chat_id}:{target.thread_id}"
    return f"sender:{target.chat_id}:{incoming.sender_id}"


def accept(item: Draft) -> Future[Accepted]:
    """Store a message durably. The future fails with NotStored when the platform should try again."""
    future: Future[Accepted] = Future()
    future.set_running_or_notify_cancel()  # a caller who leaves must not cancel what the writer will set
    _writer.put(_Waiting(item, future))
    return future


async def accepted(item: Draft) -> Accepted:
    """The same from an event loop, which is woken once a batch. Raises NotStored and Busy."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Accepted] = loop.create_future()
    _writer.put(_Waiting(item, future, loop))
    return await future


@dataclass(slots=True)
class _Waiting:
    draft: Draft
    future: Future[Accepted] | asyncio.Future[Accepted]
    loop: asyncio.AbstractEventLoop | None = None


def _tell(outcomes: Sequence[tuple[_Waiting, Accepted | Exception]]) -> None:
    """Hand out the outcomes; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[_Waiting, Accepted | Exception]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, part in by_loop.items():
        if loop is None:
            _resolve(part)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, part)


def _resolve(outcomes: Sequence[tuple[_Waiting, Accepted | Exception]]) -> None:
    for waiting, outcome in outcomes:
        if waiting.future.done():
            continue  # the caller left
        if isinstance(outcome, Exception):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)


class _Writer:
    def __init__(self) -> None:
        self._waiting: queue.Queue[_Waiting] = queue.Queue(MOST_WAITING)
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, waiting: _Waiting) -> None:
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full:
            _resolve([(waiting, NotStored("too many messages wait to be stored"))])
            return
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="intake-writer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._store(batch)

    def _store(self, batch: list[_Waiting]) -> None:
        connections.freshen()
        try:
            batch = [waiting for waiting in batch if _is_welcome(waiting)]
            accepted = _stored([waiting.draft for waiting in batch])
        except Exception as error:  # noqa: BLE001  (the one writer must outlive whatever a message holds)
            self._store_one_by_one(batch, error)
            return
        _tell(list(zip(batch, accepted, strict=True)))
        _ring(batch, accepted)

    def _store_one_by_one(self, batch: list[_Waiting], error: Exception) -> None:
        """One bad row must not cost its neighbours their places; without a database none has one."""
        if len(batch) > 1 and not isinstance(error, OperationalError | InterfaceError):
            for waiting in batch:
                self._store([waiting])
            return
        logger.error("messages could not be stored", exc_info=error)
        _tell([(waiting, NotStored("the database did not take the message")) for waiting in batch])


_writer = _Writer()


def _is_welcome(waiting: _Waiting) -> bool:
    """False when too much waits already: a program is refused; a person in a chat is told so, without the model."""
    draft = waiting.draft
    if draft.details.get("kind") == "command" or not backlog.is_full(draft.bot_id, draft.most_waiting):
        return True
    if draft.platform == Conversation.Platform.WEB:
        _tell([(waiting, Busy("The bot has more waiting messages than it can answer soon."))])
        return False
    draft.details["kind"] = "busy"
    return True


def _ring(batch: Sequence[_Waiting], accepted: Sequence[Accepted]) -> None:
    for waiting, outcome in zip(batch, accepted, strict=True):
        if outcome.is_new:
            needs_model = waiting.draft.details.get("kind") != "busy"
            doorbell.ring(outcome.conversation_id, waiting.draft.queue, needs_answer=needs_model)


def _stored(drafts: Sequence[Draft]) -> list[Accepted]:
    try:
        return store(drafts)
    except IntegrityError:
        _remembered.clear()
        return store(drafts)


# Conversations never change their place. One that was deleted is noticed at the commit, and forgotten.
Place = tuple[UUID, str, str]
MOST_REMEMBERED = 50_000
_remembered: dict[Place, UUID] = {}


def store(drafts: Sequence[Draft]) -> list[Accepted]:
    """Store in one transaction, in the order given; repeats find the row of the first one."""
    if not drafts:
        return []
    with transaction.atomic():
        conversations = _conversations(drafts)
        rows = [_row(item, conversations[item.place]) for item in drafts]
        Message.objects.bulk_create(rows, ignore_conflicts=True)
        return _outcomes(drafts, rows)


def _conversations(drafts: Sequence[Draft]) -> dict[Place, UUID]:
    wanted = {item.place: item for item in drafts}
    found = {place: _remembered[place] for place in wanted if place in _remembered}
    found |= _existing({place: item for place, item in wanted.items() if place not in found})
    missing = [_conversation(item) for place, item in wanted.items() if place not in found]
    if missing:
        Conversation.objects.bulk_create(missing, ignore_conflicts=True)
        found |= _existing({place: item for place, item in wanted.items() if place not in found})
    if len(_remembered) > MOST_REMEMBERED:
        _remembered.clear()
    _remembered.update(found)
    return found


def _existing(wanted: dict[Place, Draft]) -> dict[Place, UUID]:
    if not wanted:
        return {}
    bots, sources, scopes = (set(column) for column in zip(*wanted, strict=True))
    rows = Conversation.objects.filter(bot__in=bots, source__in=sources, scope_key__in=scopes)
    places = rows.values_list("bot", "source", "scope_key", "pk")
    found = {(bot, source, scope): pk for bot, source, scope, pk in places}
    return {place: found[place] for place in wanted if place in found}


def _conversation(item: Draft) -> Conversation:
    return Conversation(
        bot_id=item.bot_id,
        endpoint_id=item.endpoint_id,
        platform=item.platform,
        source=item.source,
        scope_key=item.scope_key,
        chat_type=item.chat_type,
        chat_id=item.chat_id,
        user_id=item.sender_id,
        user_name=item.sender_name,
    )


def _row(item: Draft, conversation_id: UUID) -> Message:
    return Message(
        id=item.id,
        conversation_id=conversation_id,
        role=Message.Role.USER,
        text=item.text,
        platform=item.platform,
        app_id=item.app_id,
        external_id=item.external_id,
        sender_id=item.sender_id,
        session_url=item.session_url,
        details=item.details,
        received_at=Now(),  # the database's clock, one for all hosts; neighbours keep their order by id
    )


def _outcomes(drafts: Sequence[Draft], rows: Sequence[Message]) -> list[Accepted]:
    stored = set(Message.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", flat=True))
    return [
        Accepted(row.pk, row.conversation_id, is_new=True) if row.pk in stored else _first(item)
        for item, row in zip(drafts, rows, strict=True)
    ]


def _first(item: Draft) -> Accepted:
    """Raises DoesNotExist when the row was no repeat: SQLite ignores broken rows where only conflicts are meant."""
    pk, conversation_id = Message.objects.values_list("pk", "conversation_id").get(
        platform=item.platform, app_id=item.app_id, external_id=item.external_id
    )
    return Accepted(pk, conversation_id, is_new=False)
