"""Network rules over REST and in the admin, and the guard against shutting oneself out (rule N7)."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import include, path, reverse
from django.utils import timezone
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from clawdbot_site.security import api
from clawdbot_site.security.models import ApiClient, IPRule, User
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db

router = SimpleRouter()
api.register(router)
urlpatterns = [path("api/v1/", include(router.urls)), path("admin/", admin.site.urls)]
LIST = "/api/v1/ip-rules/"
OWN = "127.0.0.1"
BLOCK = {"action": "block", "network": "203.0.113.7/32", "scope": "site"}


@pytest.fixture(autouse=True)
def site(settings, tmp_path):
    settings.ROOT_URLCONF, settings.STATIC_ROOT = __name__, tmp_path


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


def test_rule_is_made_changed_and_deleted_and_each_is_audited(rest):
    made = rest.post(LIST, {**BLOCK, "note": "scanner"})
    assert made.status_code == 201
    shown = "id action network scope endpoint expires_at dry_run automatic note hits last_hit_at"
    assert list(made.data) == [*shown.split(), "created_at", "updated_at", "created_by"]
    address = f"{LIST}{made.data['id']}/"
    assert rest.patch(address, {"note": "old scanner"}).data["note"] == "old scanner"
    assert rest.delete(address).status_code == 204
    assert list(AuditLog.objects.order_by("created_at").values_list("action", flat=True)) == [
        "iprule.created",
        "iprule.changed",
        "iprule.deleted",
    ]


def test_network_is_stored_in_its_one_form(rest):
    assert rest.post(LIST, {**BLOCK, "network": "::ffff:203.0.113.9/120"}).data["network"] == "203.0.113.0/24"
    assert rest.post(LIST, {**BLOCK, "network": "2001:DB8::5"}).data["network"] == "2001:db8::5/128"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"network": "203.0.113.0/99"}, "network"),
        ({"network": ""}, "network"),
        ({"network": None}, "network"),
        ({"network": "x" * 500}, "network"),
        ({"action": "maybe"}, "action"),
        ({"scope": "world"}, "scope"),
        ({"endpoint": "7"}, "endpoint"),
        ({"endpoint": str(uuid.uuid4())}, "endpoint"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_rule_is_refused_with_the_bad_field_named(rest, change, field):
    answer = rest.post(LIST, {**BLOCK, **change})
    assert answer.status_code == 400
    assert list(answer.data["error"]["fields"]) == [field]


def test_rule_names_an_endpoint_when_it_is_for_webhooks(rest):
    endpoint = str(uuid.uuid4())
    assert rest.post(LIST, {**BLOCK, "scope": "webhooks", "endpoint": endpoint}).data["endpoint"] == endpoint


def test_hits_cannot_be_written(rest):
    assert rest.post(LIST, {**BLOCK, "hits": 99}).data["hits"] == 0


@pytest.mark.rule("N7")
@pytest.mark.parametrize(
    "change",
    [
        {"network": OWN},
        {"network": "127.0.0.0/8", "scope": "admin"},
        {"network": "127.0.0.0/8", "scope": "api"},
        {"action": "allow", "network": "203.0.113.0/24"},
        {"action": "allow", "network": "::/0"},
    ],
)
def test_own_address_is_shut_out_only_when_confirmed(rest, change):
    refused = rest.post(LIST, {**BLOCK, **change})
    assert refused.status_code == 400
    assert OWN in refused.data["error"]["fields"]["confirm_lockout"][0]
    assert not IPRule.objects.exists()
    assert rest.post(LIST, {**BLOCK, **change, "confirm_lockout": True}).status_code == 201


def test_no_confirmation_is_asked_when_the_own_address_stays_welcome(rest):
    harmless = [
        BLOCK,
        {**BLOCK, "network": OWN, "scope": "webhooks"},
        {**BLOCK, "action": "allow", "network": "127.0.0.0/8"},
    ]
    assert [rest.post(LIST, one).status_code for one in harmless] == [201, 201, 201]


@pytest.mark.rule("N7")
def test_change_that_shuts_out_asks_as_well(rest):
    rule = IPRule.objects.create(**BLOCK)
    address = f"{LIST}{rule.pk}/"
    assert rest.patch(address, {"network": OWN}).status_code == 400
    assert rest.patch(address, {"network": OWN, "confirm_lockout": True}).status_code == 200
    assert rest.patch(address, {"note": "still out"}).status_code == 200, "who is out already is not asked again"


@pytest.mark.rule("N7")
def test_deleting_the_rule_that_lets_the_caller_in_asks_as_well(rest):
    IPRule.objects.create(action="allow", network="203.0.113.0/24")
    mine = IPRule.objects.create(action="allow", network=OWN)
    address = f"{LIST}{mine.pk}/"
    assert rest.delete(address).status_code == 400
    assert rest.delete(f"{address}?confirm_lockout=true").status_code == 204


def test_rules_are_listed_newest_first_with_filters(rest, django_assert_max_num_queries):
    for number in range(5):
        IPRule.objects.create(action="block", network=f"203.0.113.{number}", scope="site" if number else "api")
    with django_assert_max_num_queries(3):
        first = rest.get(LIST, {"page_size": 3}).data
    rest_of = rest.get(first["next"]).data
    networks = [one["network"] for one in [*first["results"], *rest_of["results"]]]
    assert networks == [f"203.0.113.{n}/32" for n in (4, 3, 2, 1, 0)]
    assert [one["network"] for one in rest.get(LIST, {"scope": "api"}).data["results"]] == ["203.0.113.0/32"]


@pytest.mark.parametrize(
    "row",
    [
        {"action": "maybe", "network": "10.0.0.0/8"},
        {"action": "block", "network": "10.0.0.0/8", "scope": "world"},
        {"action": "block", "network": "10.0.0.0/8", "scope": "site", "endpoint_id": uuid.UUID(int=1)},
    ],
)
def test_database_refuses_rules_that_mean_nothing(row):
    with pytest.raises(IntegrityError), transaction.atomic():
        IPRule.objects.create(**row)


# -- in the admin --


def form(**change) -> dict:
    body = {"action": "block", "network": "203.0.113.7", "scope": "site", "note": ""}
    return {**body, "endpoint_id": "", "expires_at_0": "", "expires_at_1": "", **change}


def test_admin_makes_a_rule_and_notes_who_did(browser):
    assert browser.post(reverse("admin:security_iprule_add"), form()).status_code == 302
    rule = IPRule.objects.get()
    assert (rule.network, rule.created_by.username) == ("203.0.113.7/32", "sam")
    assert AuditLog.objects.filter(action="iprule.created", actor_label="sam").exists()


@pytest.mark.rule("N7")
def test_admin_asks_before_the_own_address_is_shut_out(browser):
    page = browser.post(reverse("admin:security_iprule_add"), form(network="127.0.0.0/8"))
    assert list(page.context["adminform"].form.errors) == ["confirm_lockout"]
    assert not IPRule.objects.exists()
    confirmed = browser.post(reverse("admin:security_iprule_add"), form(network="127.0.0.0/8", confirm_lockout="on"))
    assert confirmed.status_code == 302


def test_admin_names_what_is_wrong_when_the_network_is_none(browser):
    page = browser.post(reverse("admin:security_iprule_add"), form(network="10.0.0.0/99"))
    assert list(page.context["adminform"].form.errors) == ["network"]
    page = browser.post(reverse("admin:security_iprule_add"), form(endpoint_id=str(uuid.uuid4())))
    assert page.context["adminform"].form.errors


@pytest.mark.rule("N7")
def test_admin_does_not_delete_the_rule_that_lets_its_user_in(browser):
    IPRule.objects.create(action="allow", network="203.0.113.0/24")
    mine = IPRule.objects.create(action="allow", network=OWN)
    other = IPRule.objects.create(**BLOCK)
    for rule in (mine, other):
        browser.post(reverse("admin:security_iprule_delete", args=[rule.pk]), {"post": "yes"})
    assert list(IPRule.objects.filter(pk__in=[mine.pk, other.pk])) == [mine]
    body = {"action": "delete_selected", "_selected_action": [str(mine.pk)], "post": "yes"}
    browser.post(reverse("admin:security_iprule_changelist"), body)
    assert IPRule.objects.filter(pk=mine.pk).exists()


def test_list_shows_expired_rules_as_not_in_force(browser):
    IPRule.objects.create(**BLOCK, expires_at=timezone.now() - timedelta(days=1))
    page = browser.get(reverse("admin:security_iprule_changelist"))
    assert page.status_code == 200
    assert [admin.site.get_model_admin(IPRule).in_force(rule) for rule in page.context["cl"].result_list] == [False]
