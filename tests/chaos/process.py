"""One process of the site under test: ``python -m tests.chaos.process web|worker|beat|setup``.

It loads the product, installs the failpoints, and begins when a line comes on its standard input: so a spare one takes
over at once. When that input ends, its conductor is gone and it ends too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import django
from django.core.management import call_command
from django.db import connection

KINDS = {"feishu-text": "text", "feishu-card": "stream", "dingtalk-plain": "text", "dingtalk-card": "stream"}
THREADS = 8


def web() -> None:
    from daphne.cli import CommandLineInterface

    import clawdbot_site.asgi  # noqa: F401  (a spare process has it loaded already)

    _wait_for_the_word()
    words = ["-b", "127.0.0.1", "-p", os.environ["CLAWDBOT_PORT"], "-v", "0", "clawdbot_site.asgi:application"]
    CommandLineInterface().run(words)


def worker() -> None:
    from clawdbot_site.celery import app

    _wait_for_the_word()
    name = ("-n", f"chaos-{os.getpid()}@%h", "-l", "WARNING")
    app.worker_main(["worker", "-P", "threads", "-c", str(THREADS), "-Q", "inference,delivery,default", *name])


def beat() -> None:
    from clawdbot_site.celery import app

    _wait_for_the_word()
    app.start(["beat", "-l", "WARNING", "--pidfile", ""])


def _wait_for_the_word() -> None:
    if not os.read(0, 3):
        os._exit(0)
    threading.Thread(target=_end_with_conductor, daemon=True).start()


def _end_with_conductor() -> None:
    while os.read(0, 64):
        pass
    os._exit(0)


def setup() -> None:
    """Make the tables, and a bot for each kind of chat; print the endpoints' keys as JSON by kind."""
    call_command("migrate", verbosity=0, interactive=False)
    if os.environ.get("CHAOS_WITHOUT") == "constraint":
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX one_row_per_message")
    if os.environ["CHAOS_GATEWAY"]:
        _endpoint("dingtalk-stream", "text", mode="stream")
    print(json.dumps({kind: _endpoint(kind, mode) for kind, mode in KINDS.items()}))


def _endpoint(kind: str, reply_mode: str, mode: str = "webhook") -> str:
    from bots.models import Bot, Endpoint
    from inference.models import LanguageModel
    from integrations.models import PlatformCredential

    model, _ = LanguageModel.objects.get_or_create(name="echo", defaults={"engine": "echo", "max_concurrency": 1024})
    limits: dict[str, Any] = {"rate_limit_per_user_per_minute": 0, "max_waiting": 0, "too_late_after_s": 86_400}
    bot = Bot.objects.create(
        slug=kind, name=kind, model=model, reply_mode=reply_mode, ai_notice="", history_messages=2, **limits
    )
    secret = os.environ["CHAOS_SECRET"]
    credential = PlatformCredential.objects.create(
        name=kind,
        platform=kind.partition("-")[0],
        app_id=kind,
        app_secret=secret,
        verification_token=secret,
        encrypt_key=secret,
        base_url=os.environ["CHAOS_PLATFORM"],
        card_template_id="template" if kind == "dingtalk-card" else "",
    )
    return Endpoint.objects.create(bot=bot, credential=credential, mode=mode).key


def main() -> None:
    django.setup()
    from tests.chaos import failpoints  # needs the apps

    if sys.argv[1] != "setup":
        failpoints.install(Path(os.environ["CHAOS_FOLDER"]), os.environ.get("CHAOS_WITHOUT", ""))
    {"web": web, "worker": worker, "beat": beat, "setup": setup}[sys.argv[1]]()


if __name__ == "__main__":
    main()
