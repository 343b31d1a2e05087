"""``manage.py simulate``: plays a chat platform against the running site, so that no account is needed to try a bot."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from bots.models import Bot, Conversation, Endpoint, Message
from clawdbot_site.security.models import OutboundExemption
from integrations.dingtalk.simulator import DingTalkSimulator
from integrations.feishu.simulator import FeishuSimulator
from integrations.loopback import Callback, PlatformSimulator, Seen
from integrations.models import PlatformCredential
from monitoring import audit
from monitoring.doctor.machine import site_host

SIMULATORS: dict[str, type[PlatformSimulator]] = {"feishu": FeishuSimulator, "dingtalk": DingTalkSimulator}
LONGEST_S = 120.0


class Command(BaseCommand):
    help = "Send a message to a bot as Feishu or DingTalk would, and show the reply as the person sees it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("platform", choices=sorted(SIMULATORS))
        parser.add_argument("--text", default="", help="what the person writes")
        parser.add_argument(
            "--image", type=Path, metavar="FILE", help="a picture that the person sends, with or without a text"
        )
        parser.add_argument("--bot", default="demo", help="slug of the bot (default: demo)")
        parser.add_argument("--yes-in-production", action="store_true", help="allow it on a production site")

    def handle(
        self,
        *args: Any,
        platform: str,
        text: str,
        image: Path | None,
        bot: str,
        yes_in_production: bool,
        **options: Any,
    ) -> None:
        if not settings.EMBEDDED and not settings.DEBUG and not yes_in_production:
            raise CommandError("This is a production site. Say --yes-in-production if you mean it.")
        found = Bot.objects.filter(slug=bot, is_enabled=True).first()
        if found is None:
            raise CommandError(f"There is no enabled bot {bot!r}. Bots: {', '.join(_slugs()) or 'none'}.")
        if not (text or image):
            raise CommandError('Say what the person sends: --text "…", --image FILE, or both.')
        picture = _read(image) if image else b""
        printer = Printer(self.stdout)
        with SIMULATORS[platform](printer) as simulator, joined(found, platform, simulator) as endpoint:
            self.stdout.write(" ".join(filter(None, [f"{platform} >", f"[{image.name}]" if image else "", text])))
            self._post(endpoint, simulator.message(text, picture))
            message = self._wait(simulator, endpoint)
        printer.end()
        if message.status != Message.Status.DELIVERED:
            raise CommandError(f"The message became {message.status}: {message.error or 'no reason given'}.")

    def _post(self, endpoint: Endpoint, callback: Callback) -> None:
        url = f"http://{site_host()}:{settings.PORT}/webhooks/{endpoint.credential.platform}/{endpoint.key}/"
        try:
            # nosemgrep: http-past-the-guard  (this machine's own site)
            answer = httpx.post(url, content=callback.body, headers=callback.headers, timeout=10, trust_env=False)
        except httpx.TransportError:
            raise CommandError(f"No site answers on port {settings.PORT}. Start it first: make run") from None
        if answer.status_code != 200:
            raise CommandError(f"The site refused the message ({answer.status_code}): {answer.text[:300]}")

    def _wait(self, simulator: PlatformSimulator, endpoint: Endpoint) -> Message:
        """Until the site has settled the message: only then may the rows be removed."""
        deadline = time.monotonic() + LONGEST_S
        questions = Message.objects.filter(conversation__endpoint=endpoint, role=Message.Role.USER)
        while time.monotonic() < deadline:
            message = questions.exclude(status__in=Message.WAITING).first()
            if message:
                return message
            time.sleep(0.1)
        raise CommandError(f"No complete answer within {LONGEST_S:.0f} s. Look at the site's log.")


class Printer:
    """Prints what is new of the growing text."""

    def __init__(self, out: Any) -> None:
        self._out, self._shown, self._is_begun = out, "", False

    def __call__(self, seen: Seen) -> None:
        text = seen.text
        if not text or text == self._shown:
            return
        grows = text.startswith(self._shown)
        lead = "" if self._is_begun else "bot > "
        self._out.write(lead + text[len(self._shown) :] if grows else f"\nbot > {text}", ending="")
        self._out.flush()
        self._shown, self._is_begun = text, True

    def end(self) -> None:
        self._out.write("")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"The picture cannot be read: {error}") from None


def _slugs() -> list[str]:
    return list(Bot.objects.filter(is_enabled=True).order_by("slug").values_list("slug", flat=True)[:20])


@contextmanager
def joined(bot: Bot, platform: str, simulator: PlatformSimulator) -> Iterator[Endpoint]:
    """A credential and an endpoint of the simulation's own; removed with all that was said."""
    exemption = OutboundExemption.objects.create(
        host="127.0.0.1",
        port=simulator.port,
        note="manage.py simulate",
        expires_at=timezone.now() + timedelta(seconds=LONGEST_S + 30),
    )
    name = f"simulation {simulator.port}"
    credential = PlatformCredential.objects.create(
        name=name, platform=platform, base_url=simulator.base_url, **simulator.credential()
    )
    endpoint = Endpoint.objects.create(bot=bot, credential=credential)
    audit.record("simulation.started", target=bot, target_label=f"{bot.slug} on {platform}")
    try:
        yield endpoint
    finally:
        Conversation.objects.filter(endpoint=endpoint).delete()
        endpoint.delete()
        credential.delete()
        exemption.delete()
