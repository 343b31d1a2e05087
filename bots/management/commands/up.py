"""``manage.py up``: everything from one foreground command."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection

from bots import embedded, seed, serving
from clawdbot_site.security import key_ring
from integrations import quota_meter
from monitoring import audit, watching


class Command(BaseCommand):
    help = "Migrate, seed and serve: site, workers and scheduler in one process (the embedded mode), or the site alone."
    requires_system_checks: list[str] = []  # run below, after the database exists

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.HOST)
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--fd", type=int, help="a listening socket that was handed over (systemd's first is 3)")

    def handle(self, *args: Any, host: str, port: int, fd: int | None, **options: Any) -> None:
        os.umask(0o077)  # database, keys and logs are nobody else's business
        data_dir = Path(settings.DATA_DIR)
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = embedded.lock(data_dir) if settings.EMBEDDED else None
        endpoint, host, port = own(host, port) if fd is None else handed_over(fd)
        self._prepare()
        workers = embedded.Workers() if settings.EMBEDDED else None
        server = serving.server(endpoint, lambda: self._ready(host, port))
        stop_on_signals(server, workers)
        if workers:
            workers.start()
        server.run()
        if lock:
            lock.close()
        quota_meter.meter().flush_safely()
        watching.end()
        sys.stdout.flush()
        os._exit(0)  # daemon threads of libraries would hold the exit up for seconds

    def _prepare(self) -> None:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            reason = str(error).strip().splitlines()[0]
            raise CommandError(f"The database cannot be reached: {reason}. Check DATABASE_URL.") from None
        call_command("migrate", verbosity=0, interactive=False)
        call_command("check", verbosity=0, fail_level="ERROR")
        key_ring.open_at_start()
        seed.seed()
        call_command("collectstatic", verbosity=0, interactive=False)
        connection.close()

    def _ready(self, host: str, port: int) -> None:
        self.stdout.write(f"ClawdBot is ready: http://{host}:{port}/admin/")
        where = "the one you set" if settings.ADMIN_PASSWORD else f"in {seed.password_file()}"
        self.stdout.write(f"Sign in as {seed.ADMIN}; the password is {where}. Ctrl-C stops it.")
        self.stdout.flush()
        serving.tell_service_manager("READY=1")


def handed_over(fd: int) -> tuple[str, str, int]:
    try:
        return serving.inherited_socket(fd)
    except OSError as error:
        advice = "Leave --fd out, or start it by the socket unit (docs/operations.md)"
        raise CommandError(f"--fd {fd} is no listening socket ({error.strerror}). {advice}.") from None


def own(host: str, port: int) -> tuple[str, str, int]:
    check_port(host, port)
    return serving.own_socket(host, port), host, port


def check_port(host: str, port: int) -> None:
    """A taken port is said in one sentence, before anything else is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "is taken by another program" if taken else f"cannot be opened ({error.strerror})"
            advice = "Choose another: CLAWDBOT_PORT=18790 make run"
            raise CommandError(f"Port {port} on {host} {reason}. {advice}") from None


def stop_on_signals(server: serving.GracefulServer, workers: embedded.Workers | None) -> None:
    """First answer who is waiting, then drain the workers, then leave."""
    stopping = threading.Event()

    def stop(signum: int, frame: object) -> None:
        if stopping.is_set():
            os._exit(1)  # told twice: leave at once; whatever was under way is begun anew at the next start
        stopping.set()
        threading.Thread(target=drain, name="drain", daemon=True).start()

    def drain() -> None:
        serving.tell_service_manager("STOPPING=1")
        server.finish_requests()
        if workers:
            workers.stop()
        audit.write_overdue(everything=True)
        server.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
