"""EMAIL_URL becomes Django's settings of the mail server."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from clawdbot_site.settings import env


def test_an_address_names_server_user_and_sender() -> None:
    found = env.email("smtp+tls://bots%40example.com:s3cret@smtp.example.com:587/?from=alerts@example.com")

    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("smtp.example.com", 587, True)
    assert (found["EMAIL_HOST_USER"], found["EMAIL_HOST_PASSWORD"]) == ("bots@example.com", "s3cret")
    assert (found["DEFAULT_FROM_EMAIL"], found["EMAIL_TIMEOUT"]) == ("alerts@example.com", 10)


def test_without_a_sender_the_user_is_it() -> None:
    assert env.email("smtp+ssl://bots%40example.com:x@smtp.example.com:465")["DEFAULT_FROM_EMAIL"] == "bots@example.com"


def test_no_address_sets_nothing() -> None:
    assert env.email("") == {}


@pytest.mark.parametrize("wrong", ["smtp.example.com", "https://smtp.example.com", "smtp+tsl://x"])
def test_a_wrong_address_stops_the_start_in_words(wrong: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL"):
        env.email(wrong)


@pytest.mark.rule("E10")
def test_a_wrong_address_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTBOUND_PROXY", "gopher://user:hidden-word@proxy.example:70")

    with pytest.raises(ImproperlyConfigured, match="is no address") as raised:
        env.base_url("OUTBOUND_PROXY")

    assert "hidden-word" not in str(raised.value)
