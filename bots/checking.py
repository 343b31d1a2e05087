"""What the connection check of a credential says of its bot: joined, heard, reachable, connected, last troubles."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from bots.models import Bot, Endpoint, LongConnection, Message
from clawdbot_site.security.outbound import is_public
from integrations import credential_check
from integrations.checking import NO_WAY_IN, Finding, WayIn
from integrations.models import PlatformCredential
from integrations.registry import adapter_for

State = LongConnection.State


def register() -> None:
    credential_check.register(findings)
    credential_check.register_way_in(way_in)


def way_in(credential: PlatformCredential) -> WayIn:
    """What the platform's console should have: the address or the long connection of the live endpoint."""
    live = credential.endpoints.filter(is_enabled=True, bot__is_enabled=True).first()
    if live is None:
        return NO_WAY_IN
    return WayIn("stream") if live.mode == Endpoint.Mode.STREAM else WayIn("webhook", live.webhook_url)


def findings(credential: PlatformCredential) -> list[Finding]:
    """All from the database: no call is made."""
    endpoints = list(
        credential.endpoints.select_related("bot", "credential", "long_connection").order_by("-is_enabled")
    )
    live = next((one for one in endpoints if one.is_enabled and one.bot.is_enabled), None)
    found = [*_of_live(live)] if live else [_not_live(endpoints)]
    return [*found, *_last_failure(credential)]


def _not_live(endpoints: list[Endpoint]) -> Finding:
    if not endpoints:
        fix = _("Add an endpoint: it joins this app to a bot, and shows the address for the console.")
        return Finding("failed", _("No bot is joined to this app."), fix, reverse("admin:bots_endpoint_add"))
    endpoint = endpoints[0]
    if endpoint.is_enabled:
        what = _("The bot %(bot)s is disabled: nobody answers.") % {"bot": endpoint.bot}
        return Finding("failed", what, _("Enable the bot."), reverse("admin:bots_bot_change", args=[endpoint.bot_id]))
    what = _("The endpoint of this app is disabled: what the platform sends is refused.")
    return Finding("failed", what, _("Enable the endpoint."), _page(endpoint))


def _of_live(endpoint: Endpoint) -> Iterator[Finding]:
    is_stream = endpoint.mode == Endpoint.Mode.STREAM
    yield _connection(endpoint) if is_stream else _address(endpoint)
    yield _last_event(endpoint)
    if endpoint.last_error:
        what = _("The last error of the endpoint: %(error)s") % {"error": endpoint.last_error}
        yield Finding("warning", what, link=_page(endpoint))
    yield from _cards(endpoint)


def _connection(endpoint: Endpoint) -> Finding:
    row: LongConnection | None = getattr(endpoint, "long_connection", None)
    state = row.current_state if row else State.IDLE
    what = _("The long connection: %(state)s.") % {"state": state.label}
    if state == State.CONNECTED:
        return Finding("ok", what, link=_page(endpoint))
    if state == State.IDLE:
        fix = _("Start the process that holds it (manage.py listen); in a single process restart the site.")
        return Finding("failed", what, fix, _page(endpoint))
    return Finding("failed" if state == State.REFUSED else "warning", what, row.detail if row else "", _page(endpoint))


def _address(endpoint: Endpoint) -> Finding:
    url = urlsplit(settings.PUBLIC_URL)
    fix = _("Set CLAWDBOT_PUBLIC_URL to the site's https address, or choose the long connection, which needs none.")
    if not _can_be_public(url.hostname or ""):
        what = _("The platform cannot reach this site: %(address)s is no address on the internet.")
        return Finding("failed", what % {"address": settings.PUBLIC_URL}, fix, _page(endpoint))
    if url.scheme != "https":
        what = _("The site's address is not https: %(address)s.") % {"address": settings.PUBLIC_URL}
        return Finding("warning", what, fix, _page(endpoint))
    what = _("The address for the platform's console is on the endpoint's page; it begins with %(address)s.")
    return Finding("ok", what % {"address": settings.PUBLIC_URL}, link=_page(endpoint))


def _can_be_public(host: str) -> bool:
    """Without asking a name server. A name without a dot is one of the local network."""
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        return "." in host.strip(".") and not host.rstrip(".").endswith((".localhost", ".local", ".internal"))


def _last_event(endpoint: Endpoint) -> Finding:
    if endpoint.last_event_at:
        what = _("The platform's last event came at %(time)s.") % {
            "time": f"{localtime(endpoint.last_event_at):%Y-%m-%d %H:%M}"
        }
        return Finding("ok", what, link=_page(endpoint))
    fix = _(
        "Write to the bot. If nothing comes: the address in the console is another one, the receiving mode there is "
        "not this endpoint's, the event is not added, or the version is not published. The endpoint's page has the "
        "steps."
    )
    return Finding("warning", _("No event of the platform came so far."), fix, _page(endpoint))


def _cards(endpoint: Endpoint) -> Iterator[Finding]:
    credential, wants_cards = endpoint.credential, endpoint.bot.reply_mode == Bot.ReplyMode.STREAM
    obstacle = adapter_for(credential.platform).streaming_obstacle(credential.values()) if wants_cards else None
    if obstacle:
        yield obstacle


def _last_failure(credential: PlatformCredential) -> Iterator[Finding]:
    dead = Message.objects.dead_letters().filter(platform=credential.platform, app_id=credential.app_id)
    if message := dead.order_by("-received_at").only("error", "received_at").first():
        when = f"{localtime(message.received_at):%Y-%m-%d %H:%M}"
        what = _("The last message that failed, at %(time)s: %(error)s") % {"time": when, "error": message.error or "–"}
        yield Finding("warning", what, link=reverse("admin:bots_deadletter_changelist"))


def _page(endpoint: Endpoint) -> str:
    return reverse("admin:bots_endpoint_change", args=[endpoint.pk])
