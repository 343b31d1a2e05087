"""One thread between the model's and the readers': tokens become text here, and readers are woken here.

The engine's thread hands over one list a step and goes on; what a tokenizer or a thousand waiting readers cost is not
paid by the model.
"""

from __future__ import annotations

import logging
import queue
import threading

from inference.engines.local.sequence import Event

logger = logging.getLogger(__name__)


class Dispatcher:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="local-dispatcher", daemon=True)
        self._thread.start()

    def deliver(self, events: list[Event]) -> None:
        if events:
            self._queue.put(events)

    def close(self, timeout_s: float) -> None:
        """Delivers what it has been given first."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _serve(self) -> None:
        while (events := self._queue.get()) is not None:
            for event in events:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        listener = event.sequence.listener
        if listener is None:
            return
        try:
            listener.take(event.token, event.finish, event.error)
        except Exception as error:  # the outermost loop: what breaks one answer must not silence the others
            logger.exception("answer broke", extra={"request_id": event.sequence.id})
            listener.take(None, "error", f"unexpected {type(error).__name__}")
