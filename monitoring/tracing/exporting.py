"""Ended spans leave by a thread of their own, as OTLP over HTTP, through the guarded client.

What waits is bounded. What the receiver never gets is counted (``clawdbot_trace_spans_dropped_total``).
"""

from __future__ import annotations

import logging
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from monitoring import metrics, outgoing
from monitoring.forwarder import Forwarder

logger = logging.getLogger(__name__)
MOST_WAITING: Final = 10_000
TIMEOUT_S: Final = 5.0
LAST_WORDS_S: Final = 2.0  # at the end of the process
LATER: Final = (408, 429)  # of the statuses below 500 those that may be another one the next time


class Exporter(SpanProcessor):
    """``config``: as in ``settings.TRACES``."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._url: str = config["endpoint"]
        self._headers = {**config["secret_headers"], "Content-Type": "application/x-protobuf"}
        self._http = outgoing.client(ca_file=config["ca_file"], timeout=TIMEOUT_S)
        self._is_failing = False
        self._spans: Forwarder[ReadableSpan] = Forwarder("traces", self._send, metrics.spans_dropped, MOST_WAITING)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._spans.put(span)

    def shutdown(self) -> None:
        self._spans.close(LAST_WORDS_S)
        self._http.close()

    def _send(self, spans: list[ReadableSpan]) -> None:
        """Raises where it may arrive later. What the receiver refuses for good is dropped."""
        try:
            body = encode_spans(spans).SerializeToString()
            status = self._http.post(self._url, content=body, headers=self._headers).status_code
        except Exception as error:  # told, and raised again
            self._tell(type(error).__name__)
            raise
        if status >= 500 or status in LATER:
            self._tell(f"HTTP {status}")
            raise OSError(f"HTTP {status}")
        if status >= 300:
            self._tell(f"HTTP {status}")
            metrics.spans_dropped(len(spans))
        else:
            self._is_failing = False

    def _tell(self, reason: str) -> None:
        """Once, until it works again."""
        if not self._is_failing:
            self._is_failing = True
            logger.warning("traces are not taken by their receiver", extra={"reason": reason})
