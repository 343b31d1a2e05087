"""Fetching a file that a person sent: its code becomes an address, the address is read within limits.

The address is that of an object store, and signed: DingTalk's own headers, or a Content-Type, would break it. It may
be http://. The guarded client judges where it leads, and no redirect is followed. Source: PROTOCOL.md, "Files".
"""

from __future__ import annotations

import time
from typing import Final

import httpx

from clawdbot_site.security.outbound import OutboundRefused
from integrations.dingtalk.client import DingTalkClient
from integrations.errors import PlatformError, TooLarge
from integrations.metering import metered
from integrations.values import Attachment, Fetched

TIMEOUT: Final = httpx.Timeout(20.0, connect=3.0)
TOTAL_S: Final = 60.0
HEADERS: Final = {"Accept-Encoding": "identity"}  # nothing can blow up while it unpacks


def fetch(client: DingTalkClient, http: httpx.Client, attachment: Attachment, most_bytes: int) -> Fetched:
    """Raises PlatformError; TooLarge for more than ``most_bytes``."""
    url = client.download_url(attachment.key)
    with metered("dingtalk", "file"):
        try:
            with http.stream("GET", url, headers=HEADERS, timeout=TIMEOUT, follow_redirects=False) as response:
                return _read(response, attachment, most_bytes)
        except OutboundRefused as problem:
            raise PlatformError(str(problem), permanent=True) from problem
        except (httpx.RequestError, httpx.InvalidURL) as problem:
            raise PlatformError("DingTalk's file store was not reached; it is tried again") from problem


def _read(response: httpx.Response, attachment: Attachment, most_bytes: int) -> Fetched:
    if not response.is_success:
        is_final = 300 <= response.status_code < 500
        raise PlatformError(f"DingTalk's file store answered HTTP {response.status_code}", permanent=is_final)
    data, until_s = bytearray(), time.monotonic() + TOTAL_S
    for piece in response.iter_bytes():
        data += piece
        if len(data) > most_bytes:
            raise TooLarge(f"the file has more than {most_bytes} bytes")
        if time.monotonic() > until_s:
            raise PlatformError("DingTalk's file store is too slow; it is tried again")
    return Fetched(bytes(data), response.headers.get("content-type", ""), attachment.name)
