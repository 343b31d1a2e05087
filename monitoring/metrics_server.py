"""/metrics of processes that serve no site: workers and ``listen``, on settings.WORKER_METRICS_PORT."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections

from monitoring.client_ip import parse_networks
from monitoring.context import ANONYMOUS, bind
from monitoring.views import metrics_page


def serve(port: int) -> WSGIServer:
    """Answer on ``port`` in a daemon thread, by the same rules as the site; 0 takes a free one. Stop: ``shutdown()``.

    Listens on loopback only, as long as nobody else may read anyway. Raises OSError when the port is taken.
    """
    server = make_server(_host(), port, _application, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _host() -> str:
    allowed = parse_networks(tuple(settings.METRICS_ALLOWED_NETWORKS))
    is_local = all(network.is_loopback for network in allowed) and not settings.METRICS_TOKEN
    return "127.0.0.1" if is_local else "0.0.0.0"  # noqa: S104  (the view checks address and token)  # nosec B104


def _application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ.get("PATH_INFO") != "/metrics":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Not Found\n"]
    try:
        with bind(address=environ.get("REMOTE_ADDR", ""), nobody=ANONYMOUS):
            response = metrics_page(WSGIRequest(environ))
    finally:
        connections.close_all()  # this thread ends with the request
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [response.content]
