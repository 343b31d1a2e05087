"""The HTTP and WebSocket stack, outermost first: request context, metrics, the gate, then the doors.

Platform callbacks take an application of their own, ahead of Django's handler.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clawdbot_site.settings.base")
django.setup(set_prefix=False)
site = get_asgi_application()

from django.conf import settings
from django.db import connections

from bots.routing import websocket_urlpatterns
from bots.webhooks import webhooks
from clawdbot_site.security.gate import Gate
from monitoring import watching
from monitoring.context import Receive, RequestContext, Send
from monitoring.metrics import HttpMetrics


async def pages(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Django's handler gives each request a thread. Its connection would stay open until the collector comes by, and
    a hundred requests later PostgreSQL would take no more: it is closed with the request.
    """
    async with ThreadSensitiveContext():  # the handler's own one joins it
        try:
            await site(scope, receive, send)  # type: ignore[arg-type]  # plain ASGI
        finally:
            await sync_to_async(connections.close_all)()


async def http(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await (webhooks if scope["path"].startswith("/webhooks/") else pages)(scope, receive, send)


websocket = URLRouter(websocket_urlpatterns)  # who is calling, the consumer asks security itself
application = RequestContext(HttpMetrics(Gate(ProtocolTypeRouter({"http": http, "websocket": websocket}))))

watching.start("embedded" if settings.EMBEDDED else "site")

# What is loaded by now lives as long as the process: the collector need not look through it again and again (p99 of
# callbacks under load: 200 ms with, 130 ms without).
gc.collect()
gc.freeze()

# The event loop shares the interpreter with the thread that stores and the one that rings: each waits so long, seconds,
# before it asks the other to let go. Python's own 5 ms, waited several times, is what the slowest callbacks see.
sys.setswitchinterval(0.002)
