"""The HTTP and WebSocket stack, outermost first: request context, metrics, the gate, then the doors.

Platform callbacks take an application of their own, ahead of Django's handler.
"""

from __future__ import annotations

import os
from typing import Any, cast

import django
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clawdbot_site.settings.base")
django.setup(set_prefix=False)
site = get_asgi_application()

from bots.routing import websocket_urlpatterns  # noqa: E402  (the apps must be ready first)
from bots.webhooks import webhooks  # noqa: E402
from clawdbot_site.security.gate import Gate  # noqa: E402
from monitoring.context import RequestContext  # noqa: E402
from monitoring.metrics import HttpMetrics  # noqa: E402

doors: list[Any] = [re_path(r"^webhooks/", cast(Any, webhooks)), re_path(r"", cast(Any, site))]
http = URLRouter(doors)
websocket = URLRouter(websocket_urlpatterns)  # who is calling, the consumer asks security itself
application = RequestContext(HttpMetrics(Gate(ProtocolTypeRouter({"http": http, "websocket": websocket}))))
