"""What each role may do, and that duties stay apart (rule A9)."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from clawdbot_site.security import roles
from clawdbot_site.security.models import ApiClient, IPRule, SigningKey, Team, User
from clawdbot_site.security.roles import Role
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db
EVERYTHING = {"bots:read", "bots:write", "messages:read", "messages:write", "chat", "audit:read", "admin"}


def account(*names: str, **fields) -> User:
    user = User.objects.create_user("-".join(names) or "nobody", password="pw", **fields)
    user.groups.set(Group.objects.filter(name__in=names))
    return user


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.rule("A9")
@pytest.mark.parametrize(
    ("names", "fields", "scopes"),
    [
        (["owner"], {}, EVERYTHING),
        (["operator"], {}, {"bots:read", "bots:write", "messages:read", "messages:write", "chat"}),
        (["security"], {}, {"admin", "bots:read"}),
        (["auditor"], {}, {"bots:read", "messages:read", "audit:read"}),
        (["service"], {}, {"bots:read", "chat"}),
        ([], {"is_staff": True}, {"chat"}),
        (["security"], {"is_staff": True}, {"admin", "bots:read", "chat"}),
        ([], {}, set()),
        (["operator"], {"is_staff": True}, {"bots:read", "bots:write", "messages:read", "messages:write", "chat"}),
        (["owner"], {"is_active": False}, set()),
        ([], {"is_superuser": True}, EVERYTHING),
        ([], {"is_superuser": True, "is_active": False}, set()),
    ],
)
def test_scopes_follow_the_table_when_an_account_has_roles(names, fields, scopes):
    assert roles.scopes_of(account(*names, **fields)) == scopes


def test_groups_are_there_when_migrations_have_run():
    assert set(Group.objects.values_list("name", flat=True)) == set(Role.values)


def test_groups_get_exactly_the_table_when_somebody_changed_them():
    auditor = Group.objects.get(name="auditor")
    before = set(auditor.permissions.all())
    auditor.permissions.set(Permission.objects.filter(codename="delete_user"))
    roles.ensure_groups()
    assert set(auditor.permissions.all()) == before


def permissions_of(name: str) -> set[str]:
    found = Permission.objects.filter(group__name=name).values_list("content_type__app_label", "codename")
    return {f"{label}.{codename}" for label, codename in found}


def test_auditor_only_reads():
    codenames = permissions_of("auditor")
    assert {name for name in codenames if ".view_" not in name} == set()
    assert "monitoring.view_auditlog" in codenames


def test_duties_do_not_overlap_where_it_matters():
    operator, security = permissions_of("operator"), permissions_of("security")
    assert {"security.change_user", "security.change_iprule", "monitoring.view_auditlog"} & operator == set()
    assert {name for name in security if name.startswith(("bots.", "integrations.", "inference."))} == {
        name for name in security if name.startswith(("bots.view_", "integrations.view_", "inference.view_"))
    }
    assert {"security.add_user", "security.change_iprule", "security.add_apiclient"} <= security


def test_nobody_changes_keys_or_the_log_by_permission():
    codenames = set().union(*(permissions_of(name) for name in Role.values))
    for model in ("security.signingkey", "security.datakey", "security.refreshtoken", "monitoring.auditlog"):
        label, name = model.split(".")
        assert apps.get_model(model)
        assert {f"{label}.{verb}_{name}" for verb in ("add", "change", "delete")} & codenames == set()


# owner, operator, security, auditor, service: v(iew), a(dd), c(hange), d(elete)
TABLE = {
    "auth.group": "vacd - v v -",
    "auth.permission": "vacd - - - -",
    "bots.bot": "vacd vacd v v -",
    "bots.chat": "vacd vacd v v -",
    "bots.conversation": "vacd vacd v v -",
    "bots.deliverystep": "vacd vacd v v -",
    "bots.endpoint": "vacd vacd v v -",
    "bots.feedback": "vacd vacd v v -",
    "bots.message": "vacd vacd v v -",
    "bots.messagefile": "vacd vacd v v -",
    "bots.modelusage": "vacd vacd v v -",
    "bots.wordlist": "vacd vacd v v -",
    "django_celery_beat.clockedschedule": "vacd v - v -",
    "django_celery_beat.crontabschedule": "vacd v - v -",
    "django_celery_beat.intervalschedule": "vacd v - v -",
    "django_celery_beat.periodictask": "vacd v - v -",
    "django_celery_beat.periodictasks": "vacd v - v -",
    "django_celery_beat.solarschedule": "vacd v - v -",
    "inference.languagemodel": "vacd vacd v v -",
    "inference.modelkey": "vacd vacd v v -",
    "inference.workerstate": "vacd vacd v v -",
    "integrations.grouprobot": "vacd vacd v v -",
    "integrations.platformcredential": "vacd vacd v v -",
    "integrations.quotausage": "vacd vacd v v -",
    "monitoring.alert": "vacd vc vc v -",
    "monitoring.alertchannel": "vacd vacd v v -",
    "monitoring.alertnotice": "v v v v -",
    "monitoring.alertrule": "vacd vc v v -",
    "monitoring.auditcheckpoint": "v - - v -",
    "monitoring.auditcursor": "v - - v -",
    "monitoring.auditkey": "v - - v -",
    "monitoring.auditlog": "v - - v -",
    "monitoring.auditseal": "v - - v -",
    "monitoring.auditsink": "v - - v -",
    "monitoring.auditwaiting": "v - - v -",
    "monitoring.heartbeat": "v - - v -",
    "monitoring.leader": "v - - v -",
    "monitoring.rollup": "v - - v -",
    "monitoring.silence": "vacd vacd vacd v -",
    "security.apiclient": "vacd - vacd v -",
    "security.datakey": "v - v v -",
    "security.iprule": "vacd - vacd v -",
    "security.outboundexemption": "vacd - vacd v -",
    "security.refreshtoken": "v - v v -",
    "security.signingkey": "v - v v -",
    "security.team": "vacd - vacd v -",
    "security.user": "vacd - vacd v -",
}
NOBODYS = {"rest_framework_api_key.apikey", "admin.logentry", "contenttypes.contenttype", "sessions.session"}
ROLES = ("owner", "operator", "security", "auditor", "service")


@pytest.mark.rule("A9")
def test_the_roles_have_exactly_the_permissions_of_this_table():
    """A new model belongs here: whose it is, somebody must have decided."""
    given: dict[str, dict[str, str]] = {}
    rows = Permission.objects.values_list("content_type__app_label", "content_type__model", "codename", "group__name")
    for label, model, codename, role in rows:
        letters = given.setdefault(f"{label}.{model}", dict.fromkeys(ROLES, ""))
        if role in ROLES:
            letters[role] += codename[0]
    shown = {
        name: " ".join("".join(one for one in "vacd" if one in letters[role]) or "-" for role in ROLES)
        for name, letters in given.items()
    }
    assert shown == TABLE | dict.fromkeys(NOBODYS, "- - - - -")


@pytest.mark.rule("A9")
@pytest.mark.parametrize("pair", [("operator", "security"), ("operator", "auditor"), ("security", "auditor")])
def test_two_duties_are_refused_in_one_account_however_they_are_given(pair):
    user = account(pair[0])
    other = Group.objects.get(name=pair[1])
    with pytest.raises(ValidationError), transaction.atomic():
        user.groups.add(other)
    with pytest.raises(ValidationError), transaction.atomic():
        other.user_set.add(user)
    assert roles.roles_of(user) == {pair[0]}


@pytest.mark.rule("A9")
def test_two_duties_are_allowed_when_the_setting_says_so(settings):
    settings.COMBINE_DUTIES = True
    assert roles.roles_of(account("operator", "auditor")) == {"operator", "auditor"}


# -- in the admin --


urlpatterns = [path("admin/", admin.site.urls)]


@pytest.fixture
def pages(settings, tmp_path):
    """The admin alone, whatever else the site has."""
    settings.ROOT_URLCONF, settings.STATIC_ROOT = __name__, tmp_path


def change(model, obj) -> str:
    return reverse(f"admin:security_{model}_change", args=[obj.pk])


@pytest.mark.rule("A9")
def test_security_manages_accounts_but_makes_no_owner(pages):
    person, victim = account("security", is_staff=True), account("service")
    client = browser(person)
    form = {
        "username": "renamed",
        "is_active": "on",
        "is_superuser": "on",
        "groups": [Group.objects.get(name="owner").pk],
    }
    client.post(change("user", victim), {**form, "date_joined_0": "2026-01-01", "date_joined_1": "00:00"})
    victim.refresh_from_db()
    assert (victim.username, victim.is_superuser, roles.roles_of(victim)) == ("renamed", False, {"service"})


def test_security_cannot_touch_an_owners_account_when_it_is_not_one(pages):
    client, owner = browser(account("security", is_staff=True)), account("owner", is_staff=True)
    password_page = reverse("admin:auth_user_password_change", args=[owner.pk])
    body = {"password1": "taken-over-1", "password2": "taken-over-1", "usable_password": "true"}
    assert client.post(password_page, body).status_code == 403
    client.post(change("user", owner), {"username": "taken"})
    owner.refresh_from_db()
    assert (owner.username, owner.check_password("pw")) == ("owner", True)


@pytest.mark.rule("A9")
def test_owner_gives_roles_and_it_is_audited_when_saved(pages):
    victim = account("service")
    operator = Group.objects.get(name="operator")
    body = {"username": victim.username, "is_active": "on", "groups": [operator.pk]}
    response = browser(account("owner", is_staff=True)).post(change("user", victim), body)
    assert response.status_code == 302
    assert roles.roles_of(victim) == {"operator"}
    entry = AuditLog.objects.get(action="user.changed")
    assert entry.changes["groups"] == {"before": ["service"], "after": ["operator"]}


def test_two_duties_are_an_error_on_the_form_when_given_together(pages):
    victim = account("service")
    both = Group.objects.filter(name__in=["operator", "auditor"])
    body = {"username": victim.username, "is_active": "on", "groups": [group.pk for group in both]}
    response = browser(account("owner", is_staff=True)).post(change("user", victim), body)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors.as_data()["groups"][0].code == "duties"


@pytest.mark.parametrize("name", ["user", "team", "iprule", "apiclient", "signingkey"])
def test_list_pages_cost_the_same_queries_for_one_row_and_for_three(pages, name):
    client = browser(account("owner", is_staff=True))
    makers = {
        "user": lambda n: account(f"u{n}"),
        "team": lambda n: Team.objects.create(name=f"t{n}").members.set(User.objects.all()),
        "iprule": lambda n: IPRule.objects.create(
            action="block", network=f"10.{n}.0.0/16", created_by=User.objects.first()
        ),
        "apiclient": lambda n: ApiClient.objects.create_key(
            name=f"c{n}", scopes=["chat"], created_by=User.objects.first()
        ),
        "signingkey": lambda n: SigningKey.objects.create(kid=f"k{n}", public_jwk={}, state="retired"),
    }
    address = reverse(f"admin:security_{name}_changelist")
    counts = []
    for wave in (range(1), range(1, 3)):
        for number in wave:
            makers[name](number)
        client.get(address)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_signing_key_page_shows_no_private_half(pages):
    key = SigningKey.objects.get(state="current")
    page = browser(account("auditor", is_staff=True)).get(change("signingkey", key)).content.decode()
    assert key.kid in page
    assert "PRIVATE" not in page
    assert browser(account("operator", is_staff=True)).get(change("signingkey", key)).status_code == 403
