"""Second factors: who must have one, that it is used in this very sign-in, and what happens when the phone is lost."""

from __future__ import annotations

import base64
import re
import time
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import get_resolver, reverse
from rest_framework.test import APIClient

from clawdbot_site.security import second_factor, sessions, totp
from clawdbot_site.security.authentication import principal_from_session
from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.models import RecoveryCode, SecondFactor, User
from clawdbot_site.settings import env as environment
from monitoring.models import AuditLog

PASSWORD = "a long password"
TOKEN = "/api/v1/auth/token/"
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.fixture(autouse=True)
def fresh_counts():
    cache.clear()


@pytest.fixture
def staff(db, settings) -> User:
    settings.MFA_REQUIRED_ROLES = ["staff"]
    return User.objects.create_superuser("ann", password=PASSWORD)


def code_of(user: User, *, steps_ago: int = 0) -> str:
    """A code that the app of this account shows; earlier ones are taken for one more step."""
    factor = SecondFactor.objects.get(user=user)
    return totp.code_of(factor.secret or factor.pending_secret, totp.step_at(time.time()) - steps_ago)


def enrol(user: User) -> list[str]:
    """As on the day before: the app's code of now is fresh again."""
    second_factor.pending_secret(user)
    codes = second_factor.set_up(user, code_of(user))
    SecondFactor.objects.filter(user=user).update(last_step=0)
    assert codes
    return codes


def after_password(user: User) -> Client:
    client = Client()
    sent = {"username": user.get_username(), "password": PASSWORD, "next": "/admin/"}
    assert client.post("/admin/login/", sent).status_code == 302
    return client


def signed_in(user: User) -> Client:
    client = after_password(user)
    answer = client.post(reverse("admin:second_factor"), {"code": code_of(user)})
    assert answer.status_code == 302
    SecondFactor.objects.filter(user=user).update(last_step=0)
    return client


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def actions() -> list[str]:
    return list(AuditLog.objects.order_by("created_at", "id").values_list("action", flat=True))


@pytest.mark.parametrize(
    ("now_s", "code"), [(59, "287082"), (1111111109, "081804"), (2000000000, "279037"), (20000000000, "353130")]
)
def test_codes_are_those_of_rfc_6238(now_s, code):
    assert totp.code_of(RFC_SECRET, totp.step_at(now_s)) == code


def test_a_code_counts_a_step_before_and_after_and_no_further():
    code, step = totp.code_of(RFC_SECRET, 100), 100
    found = [totp.matching_step(RFC_SECRET, code, number * totp.PERIOD_S) for number in range(98, 103)]
    assert found == [None, step, step, step, None]


# -- who must --


@pytest.mark.parametrize(
    ("given", "redis", "wanted"),
    [
        ("", "", []),
        ("", "redis://x", ["staff"]),
        ("none", "redis://x", []),
        ("owner,auditor", "", ["owner", "auditor"]),
    ],
)
def test_the_setting_asks_nobody_embedded_and_all_staff_otherwise(monkeypatch, given, redis, wanted):
    monkeypatch.setenv("MFA_REQUIRED_ROLES", given)
    monkeypatch.setenv("REDIS_URL", redis)
    assert environment.mfa_required_roles() == wanted


@pytest.mark.parametrize(
    ("wanted", "fields", "role", "is_required"),
    [
        ([], {"is_superuser": True, "is_staff": True}, "owner", False),
        (["staff"], {"is_staff": True}, "", True),
        (["staff"], {}, "service", False),
        (["owner"], {"is_superuser": True}, "", True),
        (["owner"], {"is_staff": True}, "operator", False),
        (["operator"], {}, "operator", True),
    ],
)
def test_roles_of_the_setting_need_a_second_factor(db, settings, wanted, fields, role, is_required):
    settings.MFA_REQUIRED_ROLES = wanted
    user = User.objects.create_user("bo", **fields)
    user.groups.set(Group.objects.filter(name=role))
    assert second_factor.is_required_of(user) is is_required


def admin_addresses() -> list[str]:
    """Every address of the admin, with something in the place of each key."""
    part = next(one for one in get_resolver().url_patterns if getattr(one, "app_name", "") == "admin")
    routes = {str(one.pattern) for one in _flat(part.url_patterns, "admin/")}
    own = {
        str(one.pattern)
        for one in _flat([part for part in get_resolver().url_patterns if "playground" in str(part)], "")
    }
    filled = {re.sub(r"<[^>]+>", "0", route) for route in routes | own if "(?P" not in route}
    return sorted(f"/{route}" for route in filled)


def _flat(patterns, prefix):
    for one in patterns:
        if hasattr(one, "url_patterns"):
            yield from _flat(one.url_patterns, prefix + str(one.pattern))
        else:
            yield SimpleNamespace(pattern=prefix + str(one.pattern))


FOR_EVERYBODY = {"/admin/login/", "/admin/logout/", "/admin/jsi18n/"}
OF_SIGNING_IN = {"/admin/second-factor/", "/admin/second-factor/set-up/"}


@pytest.mark.rule("A6")
@pytest.mark.parametrize("has_factor", [False, True])
def test_staff_that_gave_only_the_password_open_no_page_of_the_admin(staff, has_factor):
    if has_factor:
        enrol(staff)
    client = after_password(staff)
    for address in [one for one in admin_addresses() if one not in FOR_EVERYBODY | OF_SIGNING_IN]:
        answer = client.get(address)
        assert (answer.status_code, answer.get("Location", "")[:13]) == (302, "/admin/login/"), address


@pytest.mark.rule("A6")
def test_a_first_login_leads_to_setting_up_and_shows_recovery_codes_once(staff):
    client = after_password(staff)
    page = client.get("/admin/", follow=True)
    assert page.redirect_chain[-1][0] == "/admin/second-factor/set-up/?next=%2Fadmin%2F"
    assert "<svg" in page.content.decode()
    assert not is_in(client)

    answer = client.post(reverse("admin:second_factor_set_up"), {"code": code_of(staff), "next": "/admin/bots/bot/"})

    codes = re.findall(r"<code>([\d ]{14})</code>", answer.content.decode())
    assert (len(codes), answer.context["next"]) == (second_factor.RECOVERY_CODES, "/admin/bots/bot/")
    assert is_in(client)
    assert "second_factor.set_up" in actions()
    assert all(
        codes[0] not in str(row) and codes[0].replace(" ", "") not in str(row) for row in RecoveryCode.objects.values()
    )
    again = client.get(reverse("admin:second_factor_set_up")).content.decode()
    assert codes[0] not in again


@pytest.mark.rule("A6")
def test_every_login_needs_a_code_of_this_login(staff):
    enrol(staff)
    first, second = signed_in(staff), after_password(staff)
    assert (is_in(first), is_in(second)) == (True, False)

    wrong = second.post(reverse("admin:second_factor"), {"code": "000000"})
    assert (wrong.status_code, is_in(second)) == (200, False)
    second.post(reverse("admin:second_factor"), {"code": code_of(staff)})
    assert is_in(second)

    # The same browser, the password once more: what was proved before does not count for the new sign-in.
    second.post("/admin/login/", {"username": "ann", "password": PASSWORD})
    assert not is_in(second)


@pytest.mark.rule("A6")
def test_a_session_from_before_the_setting_is_led_to_setting_up(staff, settings):
    settings.MFA_REQUIRED_ROLES = []
    client = after_password(staff)
    assert is_in(client)
    settings.MFA_REQUIRED_ROLES = ["staff"]
    assert client.get("/admin/", follow=True).redirect_chain[-1][0].startswith(reverse("admin:second_factor_set_up"))


def test_a_code_is_good_once(staff):
    enrol(staff)
    code = code_of(staff)
    first, second = after_password(staff), after_password(staff)
    for client in (first, second):
        client.post(reverse("admin:second_factor"), {"code": code})
    assert (is_in(first), is_in(second)) == (True, False)


def test_a_recovery_code_signs_in_once_and_is_audited(staff):
    code = enrol(staff)[0]
    outcomes = []
    for _number in range(2):
        client = after_password(staff)
        client.post(reverse("admin:second_factor"), {"code": code})
        outcomes.append(is_in(client))
    assert outcomes == [True, False]
    assert AuditLog.objects.get(action="second_factor.code_used").changes == {"codes_left": 9}


def test_the_log_tells_the_halves_of_a_sign_in_apart(staff):
    enrol(staff)
    client = after_password(staff)
    client.post(reverse("admin:second_factor"), {"code": "123456"})
    client.post(reverse("admin:second_factor"), {"code": code_of(staff)})
    assert [one for one in actions() if one.startswith("auth.")][-3:] == [
        "auth.password_accepted",
        "auth.failed",
        "auth.signed_in",
    ]
    assert AuditLog.objects.filter(action="auth.signed_in").get().changes == {"second_factor": "app"}


@pytest.mark.rule("A6")
async def test_a_websocket_opens_only_for_a_whole_sign_in(transactional_db, settings):
    from asgiref.sync import sync_to_async

    settings.MFA_REQUIRED_ROLES = ["staff"]

    def prepared():
        user = User.objects.create_superuser("ann", password=PASSWORD)
        enrol(user)
        return after_password(user), signed_in(user)

    found = []
    for client in await sync_to_async(prepared)():
        cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
        headers = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"cookie", cookie)]
        found.append(await principal_from_session({"headers": headers}) is not None)
    assert found == [False, True]


# -- tokens --


def token(**given: str):
    return APIClient().post(TOKEN, {"username": "ann", "password": PASSWORD, **given}, format="json")


@pytest.mark.rule("A6")
def test_the_token_endpoint_wants_the_code_too(staff):
    answer = token()
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "otp_required")
    codes = enrol(staff)
    assert token().json()["error"]["code"] == "otp_required"
    assert token(otp="000000").status_code == 401
    assert token(otp=code_of(staff)).status_code == 200
    assert token(otp=code_of(staff)).status_code == 401  # used
    assert token(otp=codes[3]).status_code == 200


@pytest.mark.rule("A6")
def test_wrong_codes_count_as_wrong_passwords_do(staff):
    enrol(staff)
    answers = [token(otp="000000").status_code for _number in range(11)]
    assert answers == [401] * 10 + [429]
    assert token(otp=code_of(staff)).status_code == 429


def test_wrong_codes_on_the_page_count_together_with_those_of_the_token_endpoint(staff):
    enrol(staff)
    client = after_password(staff)
    for _number in range(8):
        client.post(reverse("admin:second_factor"), {"code": "000000"})
    assert [token(otp="000000").status_code for _number in range(2)] == [401, 429]
    assert client.post(reverse("admin:second_factor"), {"code": code_of(staff)}).status_code == 200
    assert not is_in(client)


def test_a_right_code_takes_its_attempts_back(staff):
    enrol(staff)
    for _number in range(30):
        signed_in(staff)
    assert token(otp=code_of(staff)).status_code == 200


def test_a_refresh_token_ends_when_a_second_factor_becomes_required(staff, settings):
    settings.MFA_REQUIRED_ROLES = []
    refresh = token().json()["refresh"]
    settings.MFA_REQUIRED_ROLES = ["staff"]
    assert APIClient().post(f"{TOKEN}refresh/", {"refresh": refresh}, format="json").status_code == 401


# -- changing and losing it --


def test_a_second_factor_can_be_set_up_freely_and_ends_other_sessions(staff, settings):
    settings.MFA_REQUIRED_ROLES = []
    mine, other = after_password(staff), after_password(staff)
    assert (is_in(mine), is_in(other)) == (True, True)
    mine.get(reverse("admin:second_factor_set_up"))
    mine.post(reverse("admin:second_factor_set_up"), {"code": code_of(staff)})
    assert (is_in(mine), is_in(other), is_in(after_password(staff))) == (True, False, False)

    SecondFactor.objects.filter(user=staff).update(last_step=0)
    mine.post(reverse("admin:second_factor_turn_off"))
    assert is_in(after_password(staff))


def test_a_required_second_factor_cannot_be_turned_off(staff):
    enrol(staff)
    client = signed_in(staff)
    assert client.post(reverse("admin:second_factor_turn_off")).status_code == 403
    assert second_factor.is_set_up(staff)


def test_new_recovery_codes_end_the_old_ones(staff):
    old = enrol(staff)[0]
    page = signed_in(staff).post(reverse("admin:second_factor_renew_codes")).content.decode()
    new = re.findall(r"<code>([\d ]{14})</code>", page)[0]
    assert (second_factor.prove(staff, old), second_factor.prove(staff, new)) == (None, "recovery code")


def test_an_owner_resets_a_lost_second_factor_and_others_cannot(staff):
    lost = User.objects.create_user("lost", password=PASSWORD, is_staff=True)
    enrol(lost)
    theirs = signed_in(lost)
    enrol(staff)
    officer = User.objects.create_user("officer", password=PASSWORD, is_staff=True)
    officer.groups.set(Group.objects.filter(name="security"))
    enrol(officer)
    asked = {"action": "reset_second_factor", "_selected_action": [lost.pk]}

    signed_in(officer).post(reverse("admin:security_user_changelist"), asked)
    assert second_factor.is_set_up(lost)
    signed_in(staff).post(reverse("admin:security_user_changelist"), asked)

    assert (second_factor.is_set_up(lost), is_in(theirs)) == (False, False)
    assert AuditLog.objects.get(action="second_factor.removed").actor_label == "ann"


def test_the_command_resets_an_owners_own(staff, capsys):
    enrol(staff)
    call_command("secondfactor", "reset", "ann")
    assert not second_factor.is_set_up(staff)
    with pytest.raises(CommandError):
        call_command("secondfactor", "reset", "ann")


def test_the_secret_is_sealed_and_bound_to_its_account(staff):
    enrol(staff)
    other = User.objects.create_user("other")
    second_factor.pending_secret(other)
    own, foreign = SecondFactor.objects.get(user=staff), SecondFactor.objects.get(user=other)
    assert (own.pk, foreign.pk) == (staff.pk, other.pk)
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM security_secondfactor WHERE confirmed_at IS NOT NULL")
        (stored,) = cursor.fetchone()
        assert own.secret.encode() not in bytes(stored)
        cursor.execute("UPDATE security_secondfactor SET secret = %s", [stored])
    assert own.secret
    with pytest.raises(DecryptionError):
        assert SecondFactor.objects.get(user=other).secret


# -- asking again --


def age(client: Client, user: User, **seconds: float) -> None:
    """Make a sign-in older, by its own notes."""
    session = client.session
    noted = session[sessions.KEY]
    session[sessions.KEY] = noted | {name: noted[name] - passed for name, passed in seconds.items()}
    session.save()


@pytest.mark.rule("A6")
@pytest.mark.parametrize(
    "name",
    [
        "security_user_add",
        "security_apiclient_add",
        "auth_group_add",
        "security_team_add",
        "monitoring_auditlog_export_csv",
        "second_factor_set_up",
    ],
)
def test_sensitive_pages_ask_again_after_a_quarter_of_an_hour(staff, name):
    enrol(staff)
    client = signed_in(staff)
    address = reverse(f"admin:{name}")
    assert client.get(address).status_code == 200
    age(client, staff, proved_at=sessions.RECENT_S + 1)
    back = client.get(address)["Location"]
    assert back.startswith(reverse("admin:prove_again"))
    assert client.get(reverse("admin:bots_bot_changelist")).status_code == 200

    wrong = client.post(back, {"code": "000000"})
    assert (wrong.status_code, client.get(address).status_code) == (200, 302)
    right = client.post(back, {"code": code_of(staff)})
    assert (right["Location"], client.get(address).status_code) == (address, 200)


def test_an_action_on_accounts_asks_again_and_changes_nothing_before(staff, settings):
    settings.MFA_REQUIRED_ROLES = []
    client = after_password(staff)
    age(client, staff, proved_at=sessions.RECENT_S + sessions.SENDING_S + 1)
    answer = client.post(
        reverse("admin:security_user_changelist"), {"action": "sign_out", "_selected_action": [staff.pk]}
    )
    assert answer["Location"].startswith(reverse("admin:prove_again"))
    assert is_in(client)
    client.post(answer["Location"], {"password": "wrong"})
    assert client.get(reverse("admin:security_user_add")).status_code == 302
    client.post(answer["Location"], {"password": PASSWORD})
    assert client.get(reverse("admin:security_user_add")).status_code == 200
