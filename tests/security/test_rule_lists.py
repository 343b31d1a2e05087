"""Network rules as lists: read line by line, all or none, over REST and in the admin."""

from __future__ import annotations

import json

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import include, path, reverse
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from clawdbot_site.security import api, rule_lists
from clawdbot_site.security.models import ApiClient, IPRule, User
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db

router = SimpleRouter()
api.register(router)
urlpatterns = [path("api/v1/", include(router.urls)), path("admin/", admin.site.urls)]
IMPORT, EXPORT = "/api/v1/ip-rules/import/", "/api/v1/ip-rules/export/"
PLAIN = "# bad ones\n203.0.113.7 # scanner\n\n2001:DB8::/32\n203.0.113.7/32\n"
CSV = (
    "network,action,scope,expires_at,dry_run,note\r\n"
    '198.51.100.0/24,allow,webhooks,,,"the office, 2nd floor"\r\n'
    "203.0.113.0/24,BLOCK,api,2199-01-31T12:00:00Z,true,\r\n"
)


@pytest.fixture(autouse=True)
def site(settings, tmp_path):
    settings.ROOT_URLCONF, settings.STATIC_ROOT = __name__, tmp_path
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def rest():
    _client, key = ApiClient.objects.create_key(name="caller", scopes=["admin"])
    rest = APIClient()
    rest.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return rest


@pytest.fixture
def browser():
    user = User.objects.create_user("sam", password="pw", is_staff=True)
    user.groups.add(Group.objects.get(name="security"))
    browser = Client()
    browser.force_login(user)
    return browser


def stored() -> list[tuple]:
    return sorted(IPRule.objects.values_list("network", "action", "scope", "is_dry_run", "note"))


def test_a_plain_list_becomes_rules_once(rest):
    first = rest.post(IMPORT, {"text": PLAIN, "scope": "api", "note": "list"})
    again = rest.post(IMPORT, {"text": PLAIN, "scope": "api"})

    assert (first.status_code, first.data["rules"], first.data["existing"]) == (201, 2, 1)
    assert (again.status_code, again.data["rules"], again.data["existing"]) == (201, 0, 3)
    assert stored() == [
        ("2001:db8::/32", "block", "api", False, "list"),
        ("203.0.113.7/32", "block", "api", False, "scanner"),
    ]
    entry = AuditLog.objects.filter(action="iprule.imported").earliest("created_at")
    assert entry.changes["rules"] == {"before": None, "after": 2}


def test_csv_says_for_each_line_what_holds(rest):
    answer = rest.post(IMPORT, {"text": CSV})

    assert answer.status_code == 201, answer.data
    assert (
        stored()
        == [
            ("198.51.100.0/24", "allow", "webhooks", False, "the office, 2nd floor"),
            ("203.0.113.0/24", "block", "api", True, ""),
        ]
        or answer.data["locks_out"]
    )


def test_what_is_exported_is_imported_back(rest):
    IPRule.objects.create(action="block", network="203.0.113.0/24", note="=cmd|' /C calc'!A0")
    IPRule.objects.create(action="block", network="2001:db8::/32", is_dry_run=True, scope="api", note='a "quoted", one')
    IPRule.objects.create(action="block", network="198.51.100.1", is_automatic=True)
    before = [row for row in stored() if row[0] != "198.51.100.1/32"]

    exported = rest.get(EXPORT)
    IPRule.objects.all().delete()
    answer = rest.post(IMPORT, {"text": exported.content.decode()})

    assert exported.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert ",=cmd" not in exported.content.decode(), "a spreadsheet would run it"
    assert (answer.status_code, stored()) == (201, before)
    assert AuditLog.objects.filter(action="iprule.exported").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.0.0.0/99", ["Line 1: 10.0.0.0/99 is no network. Write it like 10.0.0.0/8."]),
        (
            "203.0.113.1\nnonsense\n203.0.113.2\n203.0.113.999",
            [
                f"Line {n}: {t} is no network. Write it like 10.0.0.0/8."
                for n, t in ((2, "nonsense"), (4, "203.0.113.999"))
            ],
        ),
        (
            "network,colour\n10.0.0.1,red",
            [f"Line 1: Unknown columns: colour. Known are: {', '.join(rule_lists.COLUMNS)}."],
        ),
        ("network,action\n203.0.113.1,maybe", ["Line 2: action is one of allow, block, not maybe."]),
        ("network,scope\n203.0.113.1,world", ["Line 2: scope is one of site, admin, api, webhooks, not world."]),
        ("network,expires_at\n203.0.113.1,tomorrow", ["Line 2: expires_at is a time like 2030-01-31T12:00:00Z."]),
        ("network,expires_at\n203.0.113.1,2001-01-01T00:00:00Z", ["Line 2: expires_at is in the past."]),
        ("network,dry_run\n203.0.113.1,perhaps", ["Line 2: dry_run is true or false."]),
        ("network,endpoint\n203.0.113.1,7", ["Line 2: The endpoint is given by its id."]),
        ("network,note\n203.0.113.1," + "x" * 201, ["Line 2: The note is longer than 200 characters."]),
        ("network,note\n203.0.113.1,a,b", ["Line 2: The line has more cells than there are columns."]),
        ('network,note\n203.0.113.1,"a', ["Line 2: This is no CSV: unexpected end of data."]),
        ("# nothing\n", ["There is no network in it."]),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(rest, text, told):
    answer = rest.post(IMPORT, {"text": text})

    assert answer.status_code == 400
    assert [str(line) for line in answer.data["error"]["fields"]["text"]] == told
    assert stored() == []


def test_preview_tells_and_changes_nothing(rest):
    answer = rest.post(IMPORT, {"text": "203.0.113.1\nx\n127.0.0.0/8", "preview": True})
    good = rest.post(IMPORT, {"text": "203.0.113.1\n127.0.0.0/8", "preview": True})

    assert (answer.status_code, good.status_code) == (200, 200)
    assert json.loads(answer.content) == {
        "rules": 2,
        "existing": 0,
        "problem_count": 1,
        "problems": [{"line": 2, "message": "x is no network. Write it like 10.0.0.0/8."}],
        "locks_out": False,
    }
    assert (good.data["rules"], good.data["locks_out"], stored()) == (2, True, [])


@pytest.mark.rule("N7")
def test_a_list_that_shuts_out_its_sender_must_be_confirmed(rest):
    text = "203.0.113.1\n127.0.0.0/8"
    refused = rest.post(IMPORT, {"text": text})
    on_trial = rest.post(IMPORT, {"text": text, "dry_run": True})
    confirmed = rest.post(IMPORT, {"text": text, "confirm_lockout": True})

    assert list(refused.data["error"]["fields"]) == ["confirm_lockout"]
    assert (on_trial.status_code, confirmed.status_code) == (201, 201)


def test_only_so_many_problems_are_told_and_only_so_many_rules_taken(rest, monkeypatch):
    many = rest.post(IMPORT, {"text": "x\n" * 500, "preview": True})
    monkeypatch.setattr(rule_lists, "MOST_LINES", 3)
    long = rest.post(IMPORT, {"text": "\n".join(f"203.0.113.{n}" for n in range(4))})

    assert (many.data["problem_count"], len(many.data["problems"])) == (500, 100)
    assert long.data["error"]["fields"]["text"] == ["At most 3 rules at once."]


def test_who_lacks_the_scope_can_neither_import_nor_export():
    _client, key = ApiClient.objects.create_key(name="reader", scopes=["bots:read"])
    rest = APIClient()
    rest.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    assert [rest.post(IMPORT, {"text": "203.0.113.1"}).status_code, rest.get(EXPORT).status_code] == [403, 403]


# -- in the admin --


def form(**change) -> dict:
    return {"text": PLAIN, "action": "block", "scope": "site", "note": "list", **change}


def test_admin_shows_first_and_imports_then(browser):
    page_url = reverse("admin:security_iprule_import_list")
    assert browser.get(page_url).status_code == 200
    shown = browser.post(page_url, form(preview="yes"))
    assert "2 rules would be made." in shown.content.decode()
    assert stored() == []

    done = browser.post(page_url, {**form(), "import": "yes"})

    assert done.status_code == 302
    assert [row[0] for row in stored()] == ["2001:db8::/32", "203.0.113.7/32"]
    assert IPRule.objects.first().created_by.username == "sam"
    assert AuditLog.objects.filter(action="iprule.imported", actor_label="sam").exists()


def test_admin_names_bad_lines_and_imports_none(browser):
    page = browser.post(reverse("admin:security_iprule_import_list"), {**form(text="203.0.113.1\nx"), "import": "yes"})
    assert "Line 2: x is no network." in page.content.decode()
    assert stored() == []


@pytest.mark.rule("N7")
def test_admin_asks_before_a_list_shuts_out_the_own_address(browser):
    page_url = reverse("admin:security_iprule_import_list")
    asked = browser.post(page_url, {**form(text="127.0.0.0/8"), "import": "yes"})
    assert "Tick the box" in asked.content.decode()
    assert stored() == []
    browser.post(page_url, {**form(text="127.0.0.0/8", confirm_lockout="on"), "import": "yes"})
    assert len(stored()) == 1


def test_admin_exports_what_is_in_force(browser):
    IPRule.objects.create(action="block", network="203.0.113.0/24")
    answer = browser.get(reverse("admin:security_iprule_export_list"))
    assert answer.content.decode().splitlines()[1] == "203.0.113.0/24,block,site,,,false,"


def test_who_may_only_look_does_not_import(browser):
    auditor = User.objects.create_user("ann", password="pw", is_staff=True)
    auditor.groups.add(Group.objects.get(name="auditor"))
    browser.force_login(auditor)
    assert browser.get(reverse("admin:security_iprule_import_list")).status_code in (302, 403)
