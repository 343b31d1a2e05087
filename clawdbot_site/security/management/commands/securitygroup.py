"""``manage.py securitygroup``: the JSON that a cloud's firewall is fed with, generated from this site's settings."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from clawdbot_site.security import firewall


class Command(BaseCommand):
    help = "Print a cloud security group (or, with --acl, a network ACL) that lets in what this site needs, as JSON."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--acl", action="store_true", help="a network ACL: both directions")
        parser.add_argument("--name", default="clawdbot")
        parser.add_argument("--ssh-from", action="append", default=[], metavar="NETWORK", help="may be repeated")

    def handle(self, *args: Any, acl: bool, name: str, ssh_from: list[str], **options: Any) -> None:
        place = _place(tuple(map(_network, ssh_from)))
        made = firewall.network_acl(place, name) if acl else firewall.security_group(place, name)
        self.stdout.write(json.dumps(made, indent=2))
        if not ssh_from:
            self.stderr.write("Port 22 stays closed. Open it for your own network: --ssh-from 192.168.1.0/24")


def _place(ssh_networks: tuple[str, ...]) -> firewall.Place:
    database = settings.DATABASES["default"]
    server = f"postgres://{database['HOST']}:{database['PORT'] or 5432}" if database.get("HOST") else ""
    platforms = (
        settings.FEISHU_BASE_URL,
        settings.DINGTALK_API_URL,
        settings.DINGTALK_OAPI_URL,
        settings.MODEL_ENDPOINT,
    )
    outside = (settings.OUTBOUND_PROXY,) if settings.OUTBOUND_PROXY else platforms
    return firewall.Place(
        host=settings.HOST,
        port=settings.PORT,
        public_url=settings.PUBLIC_URL,
        proxies=tuple(settings.TRUSTED_PROXIES),
        metrics_networks=tuple(settings.METRICS_ALLOWED_NETWORKS),
        worker_metrics_port=settings.WORKER_METRICS_PORT,
        calls=tuple(filter(None, (*outside, settings.TRACES.get("endpoint"), server, settings.REDIS_URL))),
        ssh_networks=ssh_networks,
    )


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise CommandError(f"--ssh-from {text} is no network. Write it like 192.168.1.0/24.") from None
