"""What is read from a connection before the application is called: so much, so fast, and no more (rule W4).

Daphne by itself reads a whole body before it asks anybody, for as long as it takes. Here the area of the path says how
long a body may be; one that grows beyond it, or trickles in, is read no further: the application is called with
``clawdbot.cut`` in its scope, and the gate gives the answer. What is not even a request is answered here.
"""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import unquote

from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel
from twisted.web.http import HTTPFactory as TwistedFactory

from clawdbot_site.security import refusals
from clawdbot_site.security.areas import area_of, body_limit
from clawdbot_site.security.refusals import Answer
from monitoring.ids import uuid7

REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout", 414: b"URI Too Long", 431: b"Headers Too Large"}
MOST_HEADERS: Final = 128
MOST_HEADER_BYTES: Final = 32 * 1024
LONGEST_LINE_BYTES: Final = 16 * 1024
IDLE_S: Final = 60.0
HEADERS_S: Final = 10.0  # from a request's first byte to the end of its headers
BODY_S: Final = 10.0  # what any body may take; beyond it as long as so much comes on average:
SLOWEST_BYTES_PER_S: Final = 16 * 1024
LINGER_S: Final = 5.0  # who still sends what nobody reads would not read our answer either
LONGEST_LENGTH: Final = 18  # digits
MESSAGE_BYTES: Final = 1024 * 1024  # of a WebSocket: a text of 100,000 characters, escaped
MOST_WAITING_FRAMES: Final = 64
TOO_FAST: Final = 4429


class BoundedRequest(WebRequest):
    """``cut`` says why its body was not read to the end: "too large", "too slow"."""

    cut = ""
    most_bytes = 0
    read_bytes = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parsePOSTFormSubmission = False  # Twisted would read every form a second time, for nobody

    def handleContentChunk(self, data: bytes) -> None:
        self.read_bytes += len(data)
        if self.read_bytes > self.most_bytes:
            self.cut = "too large"
        else:
            super().handleContentChunk(data)


class BoundedChannel(HTTPChannel):
    """One connection; its requests come one after the other."""

    maxHeaders = MOST_HEADERS
    totalHeadersSize = MOST_HEADER_BYTES
    MAX_LENGTH = LONGEST_LINE_BYTES
    length: int | None
    _is_idle = True
    _wait_s = 0.0  # for what the sender may take so long now; 0: nothing new
    _is_deaf = False  # what still comes is thrown away
    _body_since_s = 0.0  # 0: no body is being read

    def dataReceived(self, data: bytes) -> None:
        if self._is_idle:
            self._is_idle, self._wait_s = False, HEADERS_S
        LineReceiver.dataReceived(self, data)  # HTTPChannel's would give new time with each byte
        self._set_clock()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._answer(refusals.MANY_HEADERS if hasattr(self, "_command") else refusals.LONG_ADDRESS)

    def _respondToBadRequestAndDisconnect(self) -> None:
        is_long = self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders
        self._answer(refusals.MANY_HEADERS if is_long else refusals.BAD_REQUEST)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        """A length of thousands of digits is too much even for ``int``."""
        if header == b"Content-Length" and len(data) > LONGEST_LENGTH:
            return bool(self._failChooseTransferDecoder())
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def allHeadersReceived(self) -> None:
        if self.length == 0:
            super().allHeadersReceived()
            return
        request = self.requests[-1]
        request.most_bytes = body_limit(area_of(unquote(self._path.partition(b"?")[0].decode("latin-1"))))
        if is_too_large := (self.length or 0) > request.most_bytes:
            request.cut, self._is_deaf, self.length = "too large", True, 0
        super().allHeadersReceived()
        if is_too_large:
            self._close_after(request)
        else:
            self._body_since_s, self._wait_s = time.monotonic(), BODY_S

    def _send100Continue(self) -> None:
        if not self._is_deaf:
            super()._send100Continue()

    def rawDataReceived(self, data: bytes) -> None:
        if self._is_deaf:
            return
        super().rawDataReceived(data)
        if self._body_since_s and self.requests[-1].cut:
            self._cut_off()

    def allContentReceived(self) -> None:
        self._body_since_s = self._wait_s = 0.0
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._is_idle, self._savedTimeOut = True, IDLE_S
        super().requestDone(request)
        self._set_clock()

    def _set_clock(self) -> None:
        """After reading all that is here: most requests are here at once, and need no clock."""
        if self._wait_s and not self._is_deaf:
            self.setTimeout(self._wait_s)
        self._wait_s = 0.0

    def timeoutConnection(self) -> None:
        if self._is_deaf:
            self.transport.loseConnection()
        elif self._body_since_s:
            self._judge_speed()
        elif self._is_idle:
            super().timeoutConnection()
        else:
            self._answer(refusals.TOO_SLOW)

    def loseConnection(self) -> None:
        """To who may still be sending we only stop talking: a closed socket would take our answer back."""
        if not self._is_deaf:
            super().loseConnection()
            return
        self._networkProducer.unregisterProducer()
        self.transport.loseWriteConnection()
        self.setTimeout(LINGER_S)

    def _judge_speed(self) -> None:
        request = self.requests[-1]
        left_s = self._body_since_s + BODY_S + request.read_bytes / SLOWEST_BYTES_PER_S - time.monotonic()
        if left_s > 0:
            self.setTimeout(left_s)
        else:
            request.cut = "too slow"
            self._cut_off()

    def _cut_off(self) -> None:
        """Have the application answer without the body."""
        self._is_deaf, request = True, self.requests[-1]
        request.content.seek(0)
        request.content.truncate()
        self._close_after(request)
        self.allContentReceived()

    def _close_after(self, request: BoundedRequest) -> None:
        self.persistent = False
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def _answer(self, answer: Answer) -> None:
        """To what never became a request."""
        if self._is_deaf:
            return
        self._is_deaf = True
        self.setRawMode()
        request_id = uuid7().hex
        headers, body = refusals.written(answer, "api", request_id)
        headers += [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
        lines = [b"HTTP/1.1 %d %s" % (answer.status, REASONS[answer.status])]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        self.loseConnection()


class BoundedFactory(HTTPFactory):
    """Makes the channels. Without TLS of our own there is no HTTP/2 to choose, so none of Twisted's choosers."""

    def log(self, request: Any) -> None:
        """No access log; Twisted would still word each line of it."""

    protocol = BoundedChannel

    def buildProtocol(self, address: Any) -> Any:
        protocol: Any = TwistedFactory.buildProtocol(self, address)
        protocol.requestFactory, protocol.timeOut = BoundedRequest, IDLE_S
        return protocol


class BoundedSocket(WebSocketProtocol):
    """Daphne keeps any number of frames for an application that is slower than its visitor."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.application_queue.qsize() >= MOST_WAITING_FRAMES:
            self.sendClose(TOO_FAST)
        else:
            super().onMessage(payload, isBinary)


class BoundedSocketFactory(WebSocketFactory):
    protocol = BoundedSocket

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setProtocolOptions(failByDrop=False)  # say why before the line is cut
