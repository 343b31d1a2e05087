"""The token endpoint wants the second factor too, and wrong codes count there as on the page."""

from __future__ import annotations

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from .signing_in import PASSWORD, after_password, code_of, enrol, is_in, signed_in

TOKEN = "/api/v1/auth/token/"


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
