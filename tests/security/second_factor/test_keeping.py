"""Second factors: changed, lost and reset, and asked for again before what is sensitive."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from clawdbot_site.security import second_factor, sessions
from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.models import SecondFactor, User
from monitoring.models import AuditLog

from .signing_in import PASSWORD, after_password, code_of, enrol, is_in, signed_in

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
