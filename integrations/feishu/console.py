"""What Feishu's console has set for an app, against what it should have: published, receiving, at the right address.

Pure. Addresses are compared and never shown: a key is in them. Source: PROTOCOL.md, "The app itself".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from integrations.checking import Finding, Level, WayIn
from integrations.feishu.fields import Json, list_of, object_of, text_of

MESSAGES: Final = "im.message.receive_v1"
LESS_WITHOUT: Final = (
    "im.message.recalled_v1",
    "im.chat.member.bot.added_v1",
    "im.chat.member.bot.deleted_v1",
    "im.chat.disbanded_v1",
    "im.chat.access_event.bot_p2p_chat_entered_v1",
    "im.message.reaction.created_v1",
    "im.message.reaction.deleted_v1",
    "application.bot.menu_v6",
)
BUTTONS: Final = "card.action.trigger"
TYPES: Final[Mapping[str, str]] = {"webhook": "webhook", "stream": "websocket"}  # ours -> Feishu's
EVENTS_PAGE, CALLBACKS_PAGE, VERSION_PAGE = "event", "event?tab=callback", "version"

PUBLISH: Final = gettext_lazy(
    "Under Version Management & Release (版本管理与发布) make a version and publish it; an admin of the company may "
    "have to approve it."
)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding, and the page of the console where it is mended; a page without an app is none yet."""

    level: Level
    what: str
    fix: str = ""
    page: str = ""

    def at(self, link: str) -> Finding:
        return Finding(self.level, self.what, self.fix, link)


@dataclass(frozen=True, slots=True)
class _Subscription:
    """Events, or the callbacks of cards: both are set alike, on two tabs of one page."""

    name: str
    page: str
    level: Level  # of what is wrong with it
    way: str
    url: str
    subscribed: tuple[str, ...]


def findings(app: Json, way_in: WayIn) -> Iterator[Found]:
    """``app`` is Feishu's answer. What an older Feishu does not tell is not complained about."""
    yield from _versions(app)
    if way_in.mode and (event := object_of(app.get("event"))):
        yield from _received(_events(event), (MESSAGES,), LESS_WITHOUT, way_in)
    if way_in.mode and (callback := object_of(app.get("callback_info") or app.get("callback"))):
        yield from _received(_callbacks(callback), (BUTTONS,), (), way_in)


def _versions(app: Json) -> Iterator[Found]:
    if "online_version_id" in app and not app["online_version_id"]:
        what = _("No version of the app is published: scopes, events and callbacks do not work before.")
        yield Found("failed", what, str(PUBLISH), VERSION_PAGE)
    if app.get("unaudit_version_id"):
        what = _("A version of the app waits for the approval of an admin of the company.")
        yield Found("warning", what, _("Ask them to approve it; what is new in it works only then."), VERSION_PAGE)


def _events(event: Json) -> _Subscription:
    way, url = text_of(event.get("subscription_type")), text_of(event.get("request_url"))
    names = _names(event.get("subscribed_events"))
    return _Subscription(_("Event Configuration (事件配置)"), EVENTS_PAGE, "failed", way, url, names)


def _callbacks(callback: Json) -> _Subscription:
    way, url = text_of(callback.get("callback_type")), text_of(callback.get("request_url"))
    names = _names(callback.get("subscribed_callbacks"))
    return _Subscription(_("Callback Configuration (回调配置)"), CALLBACKS_PAGE, "warning", way, url, names)


def _names(listed: Any) -> tuple[str, ...]:
    return tuple(text_of(one) for one in list_of(listed))


def _received(given: _Subscription, needed: Sequence[str], wanted: Sequence[str], way_in: WayIn) -> Iterator[Found]:
    lacking = [name for name in needed if name not in given.subscribed]
    if lacking:
        yield _lacking(given, lacking, given.level)
    if given.way != TYPES[way_in.mode]:
        yield _other_way(given, way_in)
    elif way_in.mode == "webhook" and _same(given.url) != _same(way_in.url):
        yield _other_address(given)
    elif not lacking:
        yield Found("ok", _("%(page)s leads here.") % {"page": given.name})
    if less := [name for name in wanted if name not in given.subscribed]:
        yield _lacking(given, less, "warning", is_less=True)


def _lacking(given: _Subscription, names: Sequence[str], level: Level, *, is_less: bool = False) -> Found:
    listed = {"page": given.name, "names": ", ".join(names)}
    what = _("Not added under %(page)s: %(names)s.") % listed
    if is_less:
        what = _("Not added under %(page)s, so that the bot does less: %(names)s.") % listed
    return Found(level, what, _("Add them there, then publish a version."), given.page)


def _other_way(given: _Subscription, way_in: WayIn) -> Found:
    if way_in.mode == "stream":
        what = _("%(page)s: Feishu does not use the long connection, for which the endpoint is set.")
        fix = _(
            "Choose the long connection (使用长连接) there, or the mode webhook for the endpoint; then publish a "
            "version."
        )
    else:
        what = _("%(page)s: Feishu does not send to an address, for which the endpoint is set.")
        fix = _(
            "Choose to send to the developer's server (将事件发送至开发者服务器) there and paste the endpoint's "
            "address, or choose the mode long connection for the endpoint; then publish a version."
        )
    return Found(given.level, what % {"page": given.name}, fix, given.page)


def _other_address(given: _Subscription) -> Found:
    fix = _("Copy the address from the endpoint's page and paste it there, then publish a version.")
    if not given.url:
        return Found(given.level, _("%(page)s has no address.") % {"page": given.name}, fix, given.page)
    what = _("%(page)s has another address than the endpoint's; it leads to %(host)s.")
    return Found(given.level, what % {"page": given.name, "host": _host(given.url)}, fix, given.page)


def _same(url: str) -> str:
    return url.strip().rstrip("/")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "–"
    except ValueError:
        return "–"
