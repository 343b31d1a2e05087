"""Both halves of a sign-in to the admin, as a browser and an app go through them."""

from __future__ import annotations

import time

from django.test import Client
from django.urls import reverse

from clawdbot_site.security import second_factor, totp
from clawdbot_site.security.models import SecondFactor, User
from monitoring.models import AuditLog

PASSWORD = "a long password"


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
