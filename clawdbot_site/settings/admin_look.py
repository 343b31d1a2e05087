"""How the admin looks: name, logo, colours, and what stands in its sidebar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

Item = dict[str, Any]

# Addresses of urls.py; by path, since tests of single apps bring address tables of their own.
PLAYGROUND, API_REFERENCE, SET_LANGUAGE = "/admin/playground/", "/api/docs/", "/i18n/setlang/"

OCEAN = {
    "50": "oklch(97.8% .012 205)",
    "100": "oklch(94.8% .028 205)",
    "200": "oklch(89.8% .055 205)",
    "300": "oklch(82% .09 205)",
    "400": "oklch(74% .11 205)",
    "500": "oklch(64% .11 208)",
    "600": "oklch(51% .095 210)",
    "700": "oklch(45% .082 211)",
    "800": "oklch(39% .068 212)",
    "900": "oklch(34% .055 213)",
    "950": "oklch(25% .042 214)",
}


def _file(name: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(f"clawdbot/{name}")


def _item(title: Any, icon: str, link: Any, permission: str = "") -> Item:
    item: Item = {"title": title, "icon": icon, "link": link}
    if permission:
        item["permission"] = lambda request: request.user.has_perm(permission)
    return item


def _list(title: Any, icon: str, model: str) -> Item:
    """The list page of a model, for who may see it."""
    app, _dot, name = model.partition(".")
    return _item(title, icon, reverse_lazy(f"admin:{app}_{name}_changelist"), f"{app}.view_{name}")


def _may_read_the_log(request: HttpRequest) -> bool:
    return request.user.has_perm("monitoring.view_auditlog")


def _is_playground(request: HttpRequest) -> bool:
    return request.path.startswith(PLAYGROUND)


NAVIGATION = [
    {
        "title": _("Talk"),
        "items": [
            _item(_("Dashboard"), "space_dashboard", reverse_lazy("admin:index")),
            {**_item(_("Playground"), "forum", PLAYGROUND), "active": _is_playground},
            _list(_("Conversations"), "chat", "bots.conversation"),
            _list(_("Messages"), "mail", "bots.message"),
            _list(_("Feedback"), "thumbs_up_down", "bots.feedback"),
            _item(
                _("Dead letters"),
                "unsubscribe",
                reverse_lazy("admin:bots_deadletter_changelist"),
                "bots.view_message",
            ),
        ],
    },
    {
        "title": _("Set up"),
        "items": [
            _list(_("Bots"), "smart_toy", "bots.bot"),
            _list(_("Language models"), "neurology", "inference.languagemodel"),
            _list(_("Platform credentials"), "key", "integrations.platformcredential"),
            _list(_("Endpoints"), "hub", "bots.endpoint"),
            _list(_("Chat groups"), "groups", "bots.chat"),
            _list(_("Group robots"), "campaign", "integrations.grouprobot"),
            _list(_("Word lists"), "rule", "bots.wordlist"),
        ],
    },
    {
        "title": _("Security"),
        "items": [
            _list(_("Users"), "person", "security.user"),
            _list(_("Groups"), "group", "auth.group"),
            _list(_("Teams"), "diversity_3", "security.team"),
            _list(_("API clients"), "api", "security.apiclient"),
            _list(_("IP rules"), "shield", "security.iprule"),
            _list(_("Signing keys"), "signature", "security.signingkey"),
        ],
    },
    {
        "title": _("Watch"),
        "items": [
            _list(_("Usage and costs"), "payments", "bots.modelusage"),
            _list(_("Alerts"), "notifications", "monitoring.alert"),
            _list(_("Alert rules"), "rule", "monitoring.alertrule"),
            _list(_("Silences"), "notifications_paused", "monitoring.silence"),
            _list(_("Alert channels"), "campaign", "monitoring.alertchannel"),
            _list(_("Alert notices"), "outgoing_mail", "monitoring.alertnotice"),
            _list(_("Audit log"), "history", "monitoring.auditlog"),
            _list(_("Schedules"), "schedule", "django_celery_beat.periodictask"),
            _item(_("API reference"), "menu_book", API_REFERENCE),
        ],
    },
]

UNFOLD = {
    "SITE_TITLE": "ClawdBot",
    "SITE_HEADER": "ClawdBot",
    "SITE_SUBHEADER": _("Your company's chat bots"),
    "SITE_URL": None,
    "SITE_ICON": _file("logo.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _file("favicon.svg")}],
    "SHOW_HISTORY": _may_read_the_log,  # the audit log is the history (monitoring/admin/base.py)
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_LANGUAGES": True,
    "LANGUAGES": {"action": SET_LANGUAGE},
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "8px",
    "COLORS": {"primary": OCEAN},
    "STYLES": [_file("admin.css")],
    "SCRIPTS": [_file("admin.js")],
    "LOGIN": {"image": _file("login.svg")},
    "ACCOUNT": {
        "navigation": [
            {"title": _("My sign-in"), "link": reverse_lazy("admin:my_sign_in")},
            {"title": _("Change password"), "link": reverse_lazy("admin:password_change")},
        ]
    },
    "DASHBOARD_CALLBACK": "bots.admin.dashboard.add_dashboard",
    "SIDEBAR": {"show_search": True, "command_search": True, "navigation": NAVIGATION},
}
