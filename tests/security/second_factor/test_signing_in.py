"""Second factors: who must have one, and that it is used in this very sign-in."""

from __future__ import annotations

import base64
import re
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group
from django.urls import get_resolver, reverse

from clawdbot_site.security import second_factor, totp
from clawdbot_site.security.models import RecoveryCode, User
from clawdbot_site.security.sockets import principal_from_session
from clawdbot_site.settings import env as environment
from monitoring.models import AuditLog

from .signing_in import PASSWORD, actions, after_password, code_of, enrol, is_in, signed_in

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()


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
