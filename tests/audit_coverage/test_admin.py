"""Rule U1 in the admin: every change, deletion and action leaves an entry. Walks all of the admin.

A new model or action is not in the tables below, and fails here until it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import RequestFactory
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from clawdbot_site.security.models import Team
from monitoring.admin import AuditedModelAdmin
from monitoring.models import AlertRule, AuditLog
from tests import factories

from .conftest import PASSWORD, actions
from .rows import (
    alert,
    channel,
    chat,
    client_row,
    dead,
    put_away,
    rule,
    silence,
    someone_with_a_second_factor,
    unconfirmed,
    word_list,
)

pytestmark = pytest.mark.django_db
Row = Callable[[], Any]
ROWS: dict[str, Row] = {
    "security.user": lambda: someone_with_a_second_factor(),
    "auth.group": lambda: Group.objects.create(name="some"),
    "security.team": lambda: Team.objects.create(name="some"),
    "security.iprule": rule,
    "security.apiclient": client_row,
    "inference.languagemodel": factories.model,
    "integrations.grouprobot": factories.group_robot,
    "bots.chat": chat,
    "integrations.platformcredential": lambda: factories.credential(base_url="http://127.0.0.1:9"),
    "bots.endpoint": factories.endpoint,
    "bots.bot": lambda: factories.bot(is_enabled=True),
    "monitoring.alertchannel": channel,
    "monitoring.alertrule": lambda: AlertRule.objects.get_or_create(name="machine.cpu")[0],
    "monitoring.silence": silence,
    "bots.wordlist": word_list,
    "bots.deadletter": dead,
    "bots.message": dead,
    "django_celery_beat.periodictask": lambda: PeriodicTask.objects.create(
        name="some", task="bots.tasks.sweep", interval=IntervalSchedule.objects.create(every=1, period="days")
    ),
}
# Actions that only open a page, on which somebody then confirms.
ASKS_FIRST = {("bots.deadletter", "discard_chosen"): "admin:bots_deadletter_discard"}
NEEDS_ANOTHER_STATE: dict[tuple[str, str], Callable[[], Any]] = {
    ("bots.deadletter", "restore_chosen"): lambda: put_away(),
    ("bots.bot", "enable"): lambda: factories.bot(is_enabled=False),
    ("bots.deadletter", "send_chosen_again"): lambda: unconfirmed(),
    ("bots.message", "send_again"): lambda: unconfirmed(),
}
ACTED_ON = {"monitoring.alert": alert}  # nobody changes a row by a form, and yet there are actions
READ_ONLY = {"monitoring.auditlog", "monitoring.alert", "security.signingkey", "bots.conversation"}
READ_ONLY |= {"bots.feedback", "bots.modelusage", "monitoring.alertnotice"}


def page(label: str, name: str, *args: Any) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_{name}", args=args)


def offered() -> list[tuple[str, str]]:
    """(model, action) of all actions on a selection that a superuser is offered."""
    request = RequestFactory().get("/")
    request.user = get_user_model()(username="root", is_superuser=True, is_staff=True, is_active=True)
    found = []
    for model, its_admin in admin.site._registry.items():
        names = its_admin.get_actions(request)
        found += [(model._meta.label_lower, name) for name in names]
    return found


def test_every_model_of_the_admin_is_in_the_table():
    models = {model._meta.label_lower for model in admin.site._registry}

    assert models == ROWS.keys() | READ_ONLY


def test_whatever_the_admin_can_change_is_audited(browser):
    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get()
    for model, its_admin in admin.site._registry.items():
        may_write = (
            its_admin.has_add_permission(request),
            its_admin.has_change_permission(request),
            its_admin.has_delete_permission(request),
        )
        assert isinstance(its_admin, AuditedModelAdmin) or not any(may_write), model


@pytest.mark.rule("U1")
def test_every_action_of_the_admin_leaves_an_entry(browser):
    """In one test: what is offered is known only when the admin is loaded."""
    silent = []
    for label, name in offered():
        row = NEEDS_ANOTHER_STATE.get((label, name), {**ROWS, **ACTED_ON}[label])()
        before = len(actions())
        address = page(label, "changelist") + ("?discarded=yes" if name == "restore_chosen" else "")
        answer = browser.post(address, {"action": name, "_selected_action": [row.pk], "post": "yes"})
        if (label, name) in ASKS_FIRST:
            asked = {"ids": [row.pk], "back": page(label, "changelist"), "confirmed": "yes"}
            answer = browser.post(reverse(ASKS_FIRST[label, name]), asked)
        assert answer.status_code in (200, 302), (label, name)
        written = [one for one in actions()[before:] if not one.endswith((".read", ".listed"))]
        if not written:
            silent.append((label, name))

    assert silent == []


@pytest.mark.parametrize("label", sorted(ROWS.keys() - {"bots.message", "bots.deadletter"}))
@pytest.mark.rule("U1")
def test_deleting_in_the_admin_leaves_an_entry(browser, label):
    row = ROWS[label]()
    before = len(actions())

    answer = browser.post(page(label, "delete", row.pk), {"post": "yes"})

    if answer.status_code == 403:  # this one is not deleted by hand
        assert type(row).objects.filter(pk=row.pk).exists()
        return
    assert f"{label.partition('.')[2]}.deleted" in actions()[before:]


def test_passwords_leave_entries_when_changed(browser, root):
    somebody = get_user_model().objects.create_user("somebody")
    new = {"password1": "another long password", "password2": "another long password", "usable_password": "true"}
    browser.post(f"/admin/security/user/{somebody.pk}/password/", new)
    theirs = AuditLog.objects.filter(target_id=str(somebody.pk)).values_list("action", flat=True)

    own = {"old_password": PASSWORD, "new_password1": "another long password", "new_password2": "another long password"}
    browser.post(reverse("admin:password_change"), own)
    mine = AuditLog.objects.filter(target_id=str(root.pk), action__startswith="user.").values_list("action", flat=True)

    assert list(theirs) == ["user.changed"]
    assert list(mine) == ["user.changed"]
