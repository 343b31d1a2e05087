"""The supervisor of long connections: one holder per stream endpoint, however many processes listen.

Every LOOK_S it reads which endpoints want a connection, renews what this process holds, claims what nobody holds, and
ends what is no longer wanted. Knows leases (bots/holding.py) and intake, no platform.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from channels.db import DatabaseSyncToAsync
from django.db import DatabaseError, InterfaceError

from bots import holding, inbound, intake
from bots.drafts import Accepted
from bots.errors import NotStored
from bots.holding import Claim, Status, Wanted
from bots.models import Endpoint
from clawdbot_site.security.encryption import DecryptionError
from integrations.errors import AuthenticationError, NotTaken, PlatformError
from integrations.listening import State
from integrations.registry import adapter_for
from integrations.values import Inbound
from monitoring import audit

logger = logging.getLogger(__name__)
LOOK_S = 2.0
END_S = 5.0  # longer than any connection takes to end
P = ParamSpec("P")
T = TypeVar("T")
_leases_thread = ThreadPoolExecutor(1, thread_name_prefix="listening")
_events_thread = ThreadPoolExecutor(1, thread_name_prefix="listening-events")  # one: events keep their order


def _in(executor: ThreadPoolExecutor, work: Callable[P, T]) -> DatabaseSyncToAsync[P, T]:
    return DatabaseSyncToAsync(work, thread_sensitive=False, executor=executor)


class _Held:
    """A connection of this process."""

    def __init__(self, wanted: Wanted, claim: Claim, asked_at_s: float) -> None:
        self.wanted, self.claim, self.status = wanted, claim, Status()
        self.told = ""  # the state of which the endpoint's page was last told
        self.task = asyncio.create_task(_hold(self), name=f"long-connection-{claim.endpoint_id}")
        self.lapse = self._lapse(asked_at_s)

    def prolong(self, asked_at_s: float) -> None:
        self.lapse.cancel()
        self.lapse = self._lapse(asked_at_s)

    def _lapse(self, asked_at_s: float) -> asyncio.TimerHandle:
        """Lets go by itself when the lease lapses, even while the database does not answer."""
        return asyncio.get_running_loop().call_at(asked_at_s + holding.LAPSE_S, self.task.cancel)

    def report(self, state: State, detail: str = "", *, heard: bool = False) -> None:
        if state != self.status.state and state != "connecting":
            extra = {"endpoint_id": str(self.claim.endpoint_id), "state": state}
            logger.log(logging.INFO if state == "connected" else logging.WARNING, "long connection", extra=extra)
        self.status = self.status.after(state, detail, heard=heard)


class Supervisor:
    """Run by one event loop; ends by cancellation, and then every connection is closed and every lease released."""

    def __init__(self, holder: str = holding.HOLDER) -> None:
        self._holder = holder
        self._held: dict[UUID, _Held] = {}

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self._look()
                except Exception:  # the one supervisor must outlive whatever happens
                    logger.exception("long connections could not be looked after")
                await asyncio.sleep(LOOK_S)
        finally:
            await self._end(list(self._held.values()))
            await _in(_leases_thread, holding.release_all)(self._holder)

    async def _look(self) -> None:
        wanted = await _in(_leases_thread, holding.wanted)()
        await self._end([held for held in self._held.values() if _is_over(held, wanted)])
        await self._renew()
        asked_at_s = asyncio.get_running_loop().time()
        for claim in await _in(_leases_thread, holding.claim)(wanted.keys() - self._held.keys(), self._holder):
            self._held[claim.endpoint_id] = _Held(wanted[claim.endpoint_id], claim, asked_at_s)

    async def _renew(self) -> None:
        held, asked_at_s = list(self._held.values()), asyncio.get_running_loop().time()
        good = await _in(_leases_thread, holding.renew)({one.claim: one.status for one in held})
        for one in held:
            if one.claim in good:
                one.prolong(asked_at_s)
                await self._tell(one)
        await self._end([one for one in held if one.claim not in good])

    async def _tell(self, held: _Held) -> None:
        status = held.status
        if status.state != held.told:
            await _in(_leases_thread, holding.tell)(held.claim.endpoint_id, status)
            held.told = status.state

    async def _end(self, held: Collection[_Held]) -> None:
        """Close, then release: no other process may begin before this one has ended."""
        if not held:
            return
        for one in held:
            one.lapse.cancel()
            one.task.cancel()
            self._held.pop(one.claim.endpoint_id, None)
        ended, _ = await asyncio.wait([one.task for one in held], timeout=END_S)
        gone = {one.claim: one.status for one in held if one.task in ended}
        await _in(_leases_thread, holding.release)(gone)


def _is_over(held: _Held, wanted: dict[UUID, Wanted]) -> bool:
    return held.task.done() or wanted.get(held.claim.endpoint_id) != held.wanted


async def _hold(held: _Held) -> None:
    """One connection until it is cancelled. What only an admin can change is reported, and waits for the change."""
    endpoint_id = held.claim.endpoint_id
    try:
        credentials = await _in(_leases_thread, holding.credentials_of)(endpoint_id)
        connection = adapter_for(credentials.platform).connect(credentials)
        await connection.run(Events(endpoint_id), held.report)
    except (PlatformError, DecryptionError) as problem:
        held.report("refused", str(problem))
        await asyncio.Event().wait()
    except Exception:  # the outermost frame of one connection: the supervisor begins it anew
        held.report("waiting", "An error in ClawdBot ended the connection; it is begun anew. The log says more.")
        logger.exception("a long connection ended", extra={"endpoint_id": str(endpoint_id)})


class Events:
    """A Deliver: hands the events of one endpoint to intake, in their order."""

    def __init__(self, endpoint_id: UUID) -> None:
        self._endpoint_id = endpoint_id

    async def __call__(self, event: Inbound) -> Mapping[str, Any]:
        try:
            waiting, shown = await _in(_events_thread, self._handle)(event)
            if waiting:
                await asyncio.wrap_future(waiting)
            return dict(shown)
        except (NotStored, DatabaseError, InterfaceError) as error:
            raise NotTaken(str(error)) from error

    def _handle(self, event: Inbound) -> tuple[Future[Accepted] | None, Mapping[str, Any]]:
        rows = Endpoint.objects.live().select_related("bot__model", "credential")
        endpoint = rows.filter(pk=self._endpoint_id, mode=Endpoint.Mode.STREAM).first()
        if endpoint is None:
            raise NotTaken("the endpoint is disabled")
        inbound.heard_from(endpoint)
        try:
            effect = inbound.handle(endpoint, event)
        except AuthenticationError as error:  # acknowledged all the same: it would only come again
            audit.record_refusal("event.rejected", target=endpoint, reason=str(error))
            return None, {}
        return intake.accept(effect.draft) if effect.draft else None, effect.shown


class Background:
    """The supervisor in a thread, for a process that does something else as well."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="listening", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close all connections; returns when they are closed."""
        self._loop.call_soon_threadsafe(self._cancel)
        if self._thread.is_alive():
            self._thread.join(END_S + 1)

    def _cancel(self) -> None:
        if self._task:
            self._task.cancel()

    def _run(self) -> None:
        self._task = self._loop.create_task(Supervisor().run())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
