"""The WebSocket door: ``/ws/chat/<slug>/``, for the playground and for integrators (contract in docs/api.md)."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any
from uuid import UUID

from channels.db import DatabaseSyncToAsync
from channels.generic.websocket import AsyncWebsocketConsumer

from bots import intake, web
from bots.errors import Busy, NotStored
from bots.following import Piece, Settled, follow
from bots.models import Bot, Conversation
from clawdbot_site.security.principals import Principal
from clawdbot_site.security.sockets import (
    is_foreign_origin,
    is_still_valid,
    principal_from_session,
    principal_from_token,
)
from clawdbot_site.security.teams import visible

logger = logging.getLogger(__name__)
UNAUTHENTICATED, NO_SUCH_BOT, FORBIDDEN = 4401, 4404, 4403
SIGN_IN_S = 5.0
RECHECK_S = 20.0
LONGEST_S = 900.0
LONGEST_TEXT = 100_000


def in_thread(function: Any) -> Any:
    return DatabaseSyncToAsync(function, thread_sensitive=False)


class ChatConsumer(AsyncWebsocketConsumer):
    """One person (or program) talking to one bot."""

    channel_layer_alias = "none"  # answers come through ``follow``; a channel of its own would need Redis to connect

    async def connect(self) -> None:
        self._principal: Principal | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._is_busy = False  # somebody wrote since the last check: their session is not idle
        self._slug = self.scope["url_route"]["kwargs"]["slug"]
        await self.accept()
        principal = await principal_from_session(self.scope)
        self._guard = asyncio.create_task(self._close_when_unwelcome())
        if principal:
            await self._welcome(principal)
        elif is_foreign_origin(self.scope):
            await self.close(UNAUTHENTICATED)

    async def disconnect(self, code: int) -> None:
        for task in (*self._answers, self._guard):
            task.cancel()

    async def _close_when_unwelcome(self) -> None:
        """Nobody signed in, token over, user disabled, key revoked, bot off: the line ends (rules A4, A11)."""
        await asyncio.sleep(SIGN_IN_S)
        try:
            while self._principal and await self._is_welcome(self._principal):
                await asyncio.sleep(RECHECK_S)
        except Exception:  # who cannot be checked, for whatever reason, is not welcome
            logger.exception("a connection could not be checked")
        await self.close(UNAUTHENTICATED)

    async def _is_welcome(self, principal: Principal) -> bool:
        is_over = principal.expires_at is not None and principal.expires_at < time.time()
        is_busy, self._is_busy = self._is_busy, False
        if is_over or not await is_still_valid(principal, is_busy=is_busy):
            return False
        return await in_thread(_find_bot)(self._slug, principal) is not None

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        frame = _frame(text_data)
        if self._principal is None or (frame and frame.get("type") == "auth"):
            await self._sign_in(frame)
        elif frame is None:
            await self._error("bad_frame", 'Send JSON objects like {"type":"message","id":"1","text":"Hello"}.')
        else:
            await self._handle(frame)

    async def _sign_in(self, frame: dict[str, Any] | None) -> None:
        token = frame.get("token") if frame and frame.get("type") == "auth" else None
        principal = await principal_from_token(token, self.scope) if isinstance(token, str) else None
        if principal is None or (self._principal and principal.id != self._principal.id):
            await self.close(UNAUTHENTICATED)
        elif self._principal:
            self._principal = principal  # a fresh token keeps the line open
        else:
            await self._welcome(principal)

    async def _welcome(self, principal: Principal) -> None:
        bot = await in_thread(_find_bot)(self._slug, principal)
        if bot is None or "chat" not in principal.scopes:
            await self._error("not_found" if bot is None else "forbidden", "You cannot talk to this bot.")
            await self.close(NO_SUCH_BOT if bot is None else FORBIDDEN)
            return
        self._bot, self._principal = bot, principal
        self._scope_key = f"user:{principal.id}"
        await self._say(type="ready", bot=bot.slug, name=bot.name, welcome=bot.welcome_text)

    async def _handle(self, frame: dict[str, Any]) -> None:
        handler = {"message": self._ask, "stop": self._stop, "new": self._new}.get(str(frame.get("type")))
        if handler is None:
            await self._error("unknown_type", "Known types are message, stop and new.")
        else:
            await handler(frame)

    async def _ask(self, frame: dict[str, Any]) -> None:
        own_id, text = frame.get("id"), frame.get("text")
        if not (isinstance(own_id, str) and own_id and isinstance(text, str) and text.strip()):
            await self._error("bad_message", "A message needs an `id` of your own and a `text`.")
            return
        if len(text) > LONGEST_TEXT or len(own_id) > 100:
            await self._error("too_long", f"A text may have {LONGEST_TEXT} characters, an id 100.")
            return
        principal = self._principal
        assert principal
        self._is_busy = True
        item = web.draft(
            self._bot,
            text,
            scope_key=self._scope_key,
            sender_id=principal.id,
            sender_name=principal.user.get_username(),
            own_id=own_id,
        )
        try:
            accepted = await intake.accepted(item)
        except NotStored:
            await self._error("not_stored", "The message could not be stored. Please send it again.", id=own_id)
            return
        except Busy as error:
            await self._error("busy", str(error), id=own_id)
            return
        await self._say(type="accepted", id=own_id, message_id=str(accepted.message_id))
        task = asyncio.create_task(self._stream(accepted.message_id))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _stream(self, message_id: UUID) -> None:
        try:
            async for event in follow(message_id, LONGEST_S):
                await self._tell(str(message_id), event)
        except TimeoutError:
            await self._error("timeout", "There was no answer in time.", message_id=str(message_id))
        except Exception:  # the task's outermost frame: nobody else would tell the person
            logger.exception("an answer could not be followed", extra={"message_id": str(message_id)})
            await self._error("failed", "The answer cannot be shown now.", message_id=str(message_id))

    async def _tell(self, message_id: str, event: Piece | Settled) -> None:
        if isinstance(event, Piece):
            await self._say(type="delta", message_id=message_id, text=event.text)
        elif event.is_failure:
            await self._error("model_failed", event.text or "No answer.", message_id=message_id)
        else:
            end = {"text": event.text, "usage": event.usage, "timings": event.question.timings}
            await self._say(type="done", message_id=message_id, **end)

    async def _stop(self, frame: dict[str, Any]) -> None:
        await in_thread(_with_conversation)(self._bot, self._scope_key, web.stop)

    async def _new(self, frame: dict[str, Any]) -> None:
        await in_thread(_with_conversation)(self._bot, self._scope_key, web.forget)
        await self._say(type="new")

    async def _error(self, code: str, message: str, **more: str) -> None:
        await self._say(type="error", code=code, message=message, **more)

    async def _say(self, **frame: Any) -> None:
        await self.send(text_data=json.dumps(frame, ensure_ascii=False))


def _frame(text: str | None) -> dict[str, Any] | None:
    try:
        frame = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


def _find_bot(slug: str, principal: Principal) -> Bot | None:
    return visible(Bot.objects.select_related("model"), principal).filter(slug=slug, is_enabled=True).first()


def _with_conversation(bot: Bot, scope_key: str, action: Any) -> None:
    conversation = Conversation.objects.filter(bot=bot, source=web.SOURCE, scope_key=scope_key).first()
    if conversation:
        action(conversation)
