"""How often a password may be guessed, at the token endpoint and in the admin together (rule A10), and checks (E11)."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.test import Client
from django.urls import include, path
from redis.exceptions import ConnectionError as RedisConnectionError
from rest_framework.test import APIClient

from clawdbot_site.security import checks, counting
from clawdbot_site.security.models import ApiClient, User
from clawdbot_site.security.urls import token_urlpatterns
from monitoring import audit
from monitoring.models import AuditLog

pytestmark = pytest.mark.django_db
urlpatterns = [path("api/v1/", include(token_urlpatterns)), path("admin/", admin.site.urls)]
RIGHT = "correct horse"


@pytest.fixture(autouse=True)
def site(settings, tmp_path):
    settings.ROOT_URLCONF, settings.STATIC_ROOT = __name__, tmp_path
    cache.clear()
    counting.own_store.clear()
    counting._lost_until_s = 0.0
    audit.REFUSALS.clear()
    User.objects.create_superuser("ada", password=RIGHT)


def token(password: str = "wrong", username: str = "ada", address: str = "198.51.100.1", **headers):
    body = {"username": username, "password": password}
    return APIClient().post("/api/v1/auth/token/", body, REMOTE_ADDR=address, **headers)


def page(password: str = "wrong", address: str = "198.51.100.1"):
    return Client().post("/admin/login/", {"username": "ada", "password": password}, REMOTE_ADDR=address)


def errors(answer) -> str:
    return str(answer.context["form"].non_field_errors())


@pytest.mark.rule("A10")
def test_guessing_is_stopped_after_ten_wrong_passwords_even_with_the_right_one():
    codes = [token().status_code for _ in range(25)]
    assert codes == [401] * 10 + [429] * 15
    last = token(RIGHT)
    assert (last.status_code, last.headers["Retry-After"]) == (429, "300")
    assert last.data["error"]["message"]


@pytest.mark.rule("A10")
def test_limit_is_shared_with_the_login_page():
    for _ in range(5):
        token()
        page()
    assert token(RIGHT).status_code == 429
    refused = page(RIGHT)
    assert refused.status_code == 200
    assert "Too many attempts" in errors(refused)


def test_wrong_password_on_the_login_page_is_called_so_below_the_limit():
    assert "Too many" not in errors(page())
    assert page(RIGHT).status_code == 302


def test_other_addresses_can_sign_in_when_one_is_stopped():
    for _ in range(12):
        token()
    assert token(RIGHT, address="198.51.100.2").status_code == 200


def test_success_clears_what_failed_before():
    for _ in range(3):
        for _ in range(9):
            assert token().status_code == 401
        assert token(RIGHT).status_code == 200


def test_signing_in_often_is_no_guessing():
    assert {token(RIGHT).status_code for _ in range(60)} == {200}


def test_network_is_stopped_when_it_tries_many_accounts():
    codes = [token(username=f"user{number}").status_code for number in range(60)]
    assert codes == [401] * 50 + [429] * 10
    assert token(username="somebody", address="198.51.100.9").status_code == 401


def test_account_is_stopped_when_many_addresses_try_it():
    codes = [token(address=f"203.0.{number // 5}.{number % 5}").status_code for number in range(110)]
    assert codes == [401] * 100 + [429] * 10


@pytest.mark.rule("A10")
def test_forged_forwarding_headers_do_not_help_when_the_peer_is_no_proxy():
    codes = [token(HTTP_X_FORWARDED_FOR=f"10.0.0.{number}").status_code for number in range(15)]
    assert codes == [401] * 10 + [429] * 5


def test_one_ipv6_customer_is_one_network():
    codes = [token(address=f"2001:db8::{number:x}").status_code for number in range(15)]
    assert codes == [401] * 10 + [429] * 5


def test_spelling_of_the_name_does_not_help():
    codes = [token(username="ada" if number % 2 else "ADA").status_code for number in range(15)]
    assert codes == [401] * 10 + [429] * 5


@pytest.mark.rule("A10")
def test_keys_are_limited_by_network():
    def guess(key: str = "abcdefgh.guess") -> int:
        return APIClient().post("/api/v1/auth/token/", {"api_key": key}, REMOTE_ADDR="198.51.100.1").status_code

    _client, key = ApiClient.objects.create_key(name="c", scopes=["chat"])
    assert {guess(key) for _ in range(60)} == {200}
    assert [guess() for _ in range(55)] == [401] * 50 + [429] * 5


class Lost(BaseCache):
    """A cache whose server is gone."""

    asked = 0

    def __init__(self, location: str, params: dict) -> None:
        super().__init__(params)

    def add(self, *args, **kwargs):
        type(self).asked += 1
        raise RedisConnectionError("gone")

    get = set = incr = decr = delete = add


def test_limits_hold_and_people_get_in_when_the_cache_is_lost(settings):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.Lost"}}
    assert token(RIGHT).status_code == 200
    assert [token().status_code for _ in range(12)] == [401] * 10 + [429] * 2


def test_lost_cache_is_left_alone_for_a_while(settings):
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.Lost"}}
    Lost.asked = 0
    for _ in range(5):
        token()
    assert Lost.asked == 1, "each of them would wait for it"


def test_sign_ins_are_audited_with_their_flood_counted_once():
    for _ in range(25):
        token()
    page(RIGHT, address="198.51.100.2")
    entries = list(AuditLog.objects.order_by("created_at").values_list("action", "reason", "address"))
    assert entries == [
        ("auth.failed", "wrong password", "198.51.100.1"),
        ("auth.refused", "too many attempts", "198.51.100.1"),
        ("auth.signed_in", "", "198.51.100.2"),
    ]
    assert not [entry for entry in AuditLog.objects.all() if RIGHT in str(vars(entry))]


# -- checks --

GOOD = "k7Jw2_Qm9xZr4Tn8Vb3Lc6Hd1Fg5Ps0Ya-Ue"


def found(**values) -> list[str]:
    return [message.id for message in checks.check_secrets(None)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SECRET_KEY", GOOD, []),
        ("SECRET_KEY", "django-insecure-" + GOOD, ["security.E002"]),
        ("SECRET_KEY", "ChangeMe" + GOOD, ["security.E002"]),
        ("SECRET_KEY", "short-one", ["security.E003"]),
        ("SECRET_KEY", "a" * 64, ["security.E003"]),
        ("FIELD_ENCRYPTION_KEYS", [], ["security.E001"]),
        ("FIELD_ENCRYPTION_KEYS", [GOOD], ["security.E003"]),
        ("FIELD_ENCRYPTION_KEYS", [GOOD * 2, ""], ["security.E001"]),
        ("METRICS_TOKEN", "", []),
        ("METRICS_TOKEN", "password", ["security.E002"]),
        ("METRICS_TOKEN", "shorttoken", ["security.E003"]),
        ("ADMIN_PASSWORD", "admin", ["security.E002"]),
        ("VAULT", {"token": "changeme", "secret_id": ""}, ["security.E002"]),
        ("VAULT", {"token": "", "secret_id": "short"}, ["security.E003"]),
        ("VAULT", {"token": "hvs." + GOOD, "secret_id": ""}, []),
    ],
)
@pytest.mark.rule("E11")
def test_start_is_refused_when_a_secret_is_none(settings, name, value, expected):
    settings.DEBUG, settings.SECRET_KEY, settings.FIELD_ENCRYPTION_KEYS = False, GOOD, [GOOD * 2]
    settings.METRICS_TOKEN = settings.ADMIN_PASSWORD = ""
    setattr(settings, name, value)
    assert found() == expected
    assert not [message for message in checks.check_secrets(None) if value and str(value) in message.msg]


def test_placeholders_are_allowed_in_development(settings):
    settings.DEBUG, settings.SECRET_KEY = True, "changeme"
    assert found() == []


def test_start_is_refused_when_a_door_has_no_lock(settings):
    assert checks.check_doors(None) == []
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "DEFAULT_PERMISSION_CLASSES": []}
    assert [message.id for message in checks.check_doors(None)] == ["security.E004", "security.E005"]
