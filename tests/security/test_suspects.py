"""Who fails again and again is shut out for a while: whom, how long, and whom never (rule A10)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.urls import include, path
from django.utils import timezone
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient

from clawdbot_site.security import api, counting, rule_book, suspects
from clawdbot_site.security.models import ApiClient, IPRule, User
from clawdbot_site.security.rule_book import RuleBook
from clawdbot_site.security.suspects import Watch
from clawdbot_site.security.urls import token_urlpatterns
from monitoring import audit
from monitoring.context import ANONYMOUS, Actor
from monitoring.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.rule("A10")]
router = SimpleRouter()
api.register(router)
urlpatterns = [path("api/v1/", include([*token_urlpatterns, *router.urls]))]
GUESSER = "198.51.100.1"
LIST = "/api/v1/ip-rules/"


@pytest.fixture(autouse=True)
def site(settings, monkeypatch):
    # A follower that another test of this process began would take the failures first.
    monkeypatch.setattr(rule_book.rules, "_turn", lambda: None)
    settings.ROOT_URLCONF, settings.AUTO_BLOCK_FAILURES = __name__, 5
    settings.AUTO_BLOCK_FIRST_S, settings.AUTO_BLOCK_LONGEST_S = 900, 86_400
    cache.clear()
    counting.own_store.clear()
    counting._lost_until_s = 0.0
    audit.REFUSALS.clear()
    suspects.watch._failures.clear()


def nobody_is_welcome(address: str) -> bool:
    return False


def flush(welcome=nobody_is_welcome) -> list[tuple[str, str, int]]:
    """(network, scope, minutes that are left) of all automatic blocks."""
    suspects.watch.flush(welcome)
    rules = IPRule.objects.automatic().order_by("created_at")
    return [(rule.network, rule.scope, round((rule.expires_at - timezone.now()).seconds / 60)) for rule in rules]


def call(**sent) -> int:
    options = {"REMOTE_ADDR": GUESSER, **sent}
    if "HTTP_AUTHORIZATION" in options:
        return APIClient().get(LIST, **options).status_code
    body = options.pop("body", {"username": "ada", "password": "wrong"})
    return APIClient().post(options.pop("path", "/api/v1/auth/token/"), body, **options).status_code


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"body": {"api_key": "abcdefgh.guess"}},
        {"path": "/api/v1/auth/token/refresh/", "body": {"refresh": "guess"}},
        {"HTTP_AUTHORIZATION": "Api-Key abcdefgh.guess"},
        {"HTTP_AUTHORIZATION": "Bearer a.b.c"},
    ],
    ids=["password", "key for a token", "refresh token", "key", "token"],
)
def test_repeated_failures_end_in_a_block_that_is_audited_and_ends(sent):
    for number in range(4):
        call(**sent, HTTP_X_FORWARDED_FOR=f"203.0.113.{number}")
    assert flush() == []
    call(**sent, HTTP_X_FORWARDED_FOR="203.0.113.9")

    assert flush() == [(f"{GUESSER}/32", "site", 15)]
    entry = AuditLog.objects.get(action="iprule.created")
    assert (entry.actor_kind, entry.reason) == ("system", "5 failures within 10 minutes")
    assert AuditLog.objects.filter(outcome="refused").count() == 1, "the flood is summed up"


def test_the_block_counts_at_the_gate_and_ends_by_itself():
    for _ in range(5):
        call()
    flush()
    book = RuleBook()
    book.load()
    (rule,) = IPRule.objects.automatic()

    assert not book.decide(GUESSER, "admin").allowed
    assert book._rules.decide(GUESSER, "admin", now=rule.expires_at.timestamp() + 1).allowed


def test_one_ipv6_customer_is_one_caller():
    for number in range(5):
        call(REMOTE_ADDR=f"2001:db8::{number + 1:x}")
    assert flush() == [("2001:db8::/64", "site", 15)]


def test_who_comes_back_is_blocked_four_times_longer_each_time_up_to_a_limit(settings):
    minutes = []
    for _ in range(5):
        for _ in range(5):
            call()
        minutes.append(flush()[-1][2])
        cache.clear()
    assert minutes == [15, 60, 240, 960, 1440]


def test_a_lifted_block_is_forgotten():
    rest = APIClient()
    rest.credentials(HTTP_AUTHORIZATION=f"Api-Key {ApiClient.objects.create_key(name='c', scopes=['admin'])[1]}")
    for _ in range(5):
        call()
    flush()
    (shown,) = rest.get(LIST, {"automatic": True}).data["results"]
    assert (shown["automatic"], shown["network"], shown["scope"]) == (True, f"{GUESSER}/32", "site")
    assert rest.delete(f"{LIST}{shown['id']}/").status_code == 204
    cache.clear()

    call()
    assert flush() == [], "one failure more is not a block again"
    for _ in range(4):
        call()
    assert flush() == [(f"{GUESSER}/32", "site", 15)]


def test_those_who_may_stand_for_many_are_never_blocked(settings):
    settings.TRUSTED_PROXIES = ["10.9.9.9/32"]
    for address in ("127.0.0.1", "127.0.0.7", "::1", "10.9.9.9"):
        for _ in range(6):
            call(REMOTE_ADDR=address)
    assert flush() == []
    for _ in range(5):
        call(REMOTE_ADDR="10.9.9.9", HTTP_X_FORWARDED_FOR=GUESSER)
    assert flush() == [(f"{GUESSER}/32", "site", 15)], "the visitor behind the proxy is another one"


def test_a_network_that_a_rule_allows_is_never_blocked():
    IPRule.objects.create(action="allow", network="198.51.100.0/24", scope="webhooks")
    book = RuleBook()
    book.load()
    for _ in range(6):
        call()
    assert flush(book.lets_in_by_rule) == []


def test_mistakes_of_people_who_are_signed_in_do_not_count():
    _client, key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    assert [call(HTTP_AUTHORIZATION=f"Api-Key {key}") for _ in range(6)] == [403] * 6
    assert flush() == []


def test_an_expired_token_does_not_count(monkeypatch):
    from clawdbot_site.security import jwt

    user = User.objects.create_user("ada", password="right")
    with monkeypatch.context() as past:
        past.setattr(jwt.time, "time", lambda: 1_700_000_000.0)
        token = jwt.issue_access(user, frozenset())
    assert [call(HTTP_AUTHORIZATION=f"Bearer {token}") for _ in range(6)] == [401] * 6
    assert flush() == []


def test_callbacks_close_only_their_own_doors_and_authentic_senders_stay():
    watch = Watch()
    for address in (GUESSER, "203.0.113.5"):
        for _ in range(6):
            watch.note("webhook.rejected", ANONYMOUS, address)
    watch.note_authentic("203.0.113.5")
    watch.flush(nobody_is_welcome)
    assert list(IPRule.objects.values_list("network", "scope")) == [(f"{GUESSER}/32", "webhooks")]

    for _ in range(6):
        watch.note("auth.failed", ANONYMOUS, "203.0.113.5")
    watch.flush(nobody_is_welcome)
    assert IPRule.objects.filter(network="203.0.113.5/32", scope="site").exists(), "a platform does not guess passwords"


def test_processes_count_together():
    one, other = Watch(), Watch()
    for watch in (one, other):
        for _ in range(3):
            watch.note("auth.failed", Actor("anonymous"), GUESSER)
    one.flush(nobody_is_welcome)
    assert not IPRule.objects.exists()
    other.flush(nobody_is_welcome)
    assert IPRule.objects.count() == 1


def test_nobody_is_blocked_when_it_is_switched_off(settings):
    settings.AUTO_BLOCK_FAILURES = 0
    for _ in range(6):
        call()
    assert flush() == []


def test_blocks_that_ended_long_ago_are_forgotten():
    ends = [timezone.now() - timedelta(days=days) for days in (8, 1)]
    for number, expires_at in enumerate(ends):
        network = f"203.0.113.{number}"
        IPRule.objects.create(action="block", network=network, is_automatic=True, expires_at=expires_at)
    IPRule.objects.create(action="block", network="203.0.113.9", expires_at=ends[0])

    suspects.forget_old()

    assert sorted(IPRule.objects.values_list("network", flat=True)) == ["203.0.113.1/32", "203.0.113.9/32"]
    assert AuditLog.objects.filter(action="iprule.deleted").count() == 1
