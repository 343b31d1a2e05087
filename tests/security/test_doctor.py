"""What doctor says of keys, second factors and the public address."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from clawdbot_site.security import doctor, key_providers, key_ring
from clawdbot_site.security.models.keys import DataKey
from clawdbot_site.security.reencryption import rows_by_key, secret_columns
from tests import factories
from tests.servers.tls import certificate, serving


def told(check: Any) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in check()]


@pytest.mark.django_db
def test_keys_in_order_are_one_line() -> None:
    factories.credential()

    newest = key_providers.wrapping().wrapping_keys()[0]
    good = f"All secrets can be opened; the data key is 0 days old, wrapped by {newest}."
    assert told(doctor.keys) == [("ok", good)]


@pytest.mark.django_db
def test_an_old_key_and_secrets_without_theirs_are_told() -> None:
    factories.credential()
    sealed = rows_by_key(secret_columns()).total()
    lost = DataKey.objects.get(key_id=key_ring.primary_id())
    key_ring.rotate()
    lost.delete()

    assert told(doctor.keys) == [
        ("failed", f"{sealed} secrets are sealed by a key that is not in the database."),
    ]


@pytest.mark.django_db
def test_a_missing_key_encryption_key_is_broken(settings: Any) -> None:
    key_ring.primary_id()
    settings.FIELD_ENCRYPTION_KEYS = ["NbG8m3xq1ZPpTzXWwF6c0kq8H5r2y7uJv9sLdQeRtYI="]

    ((level, what),) = told(doctor.keys)

    assert (level, "does not open it" in what) == ("failed", True)


def test_sign_in_without_a_second_factor_warns(settings: Any) -> None:
    settings.MFA_REQUIRED_ROLES = []
    assert [level for level, _ in told(doctor.sign_in)] == ["warning"]
    settings.MFA_REQUIRED_ROLES = ["admin"]
    assert told(doctor.sign_in) == [("ok", "A second factor is required of: admin.")]


# -- TLS --


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    made = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made[0]))
    return made


def test_a_good_certificate_is_one_line(pair: tuple[Path, Path], settings: Any) -> None:
    with serving(*pair) as port:
        settings.PUBLIC_URL = f"https://localhost:{port}"

        assert told(doctor.tls) == [("ok", "The certificate is valid for 30 more days.")]


def test_a_certificate_that_ends_soon_and_old_protocols_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    pair = certificate(tmp_path, days=9)
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    with serving(*pair, oldest=ssl.TLSVersion.TLSv1) as port:
        settings.PUBLIC_URL = f"https://localhost:{port}"

        assert told(doctor.tls) == [
            ("warning", "The certificate ends in 9 days."),
            ("failed", f"https://localhost:{port} still takes TLS 1.0 or 1.1."),
        ]


def test_a_certificate_that_nobody_trusts_is_broken(tmp_path: Path, settings: Any) -> None:
    with serving(*certificate(tmp_path)) as port:
        settings.PUBLIC_URL = f"https://localhost:{port}"

        ((level, what),) = told(doctor.tls)

    assert (level, "self-signed certificate" in what) == ("failed", True)


@pytest.mark.parametrize(("url", "level"), [("http://127.0.0.1:18789", "ok"), ("http://bots.example.com", "warning")])
def test_plain_http_is_fine_on_this_machine_only(settings: Any, url: str, level: str) -> None:
    settings.PUBLIC_URL = url

    assert [one for one, _ in told(doctor.tls)] == [level]
