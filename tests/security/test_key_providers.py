"""Rule E7: key-encryption keys from the environment, a file or a Vault; what is wrong is said in words."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clawdbot_site.security import doctor, encryption, key_providers, key_ring
from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.key_providers import KeysUnavailable
from clawdbot_site.security.key_providers.base import Wrapped
from clawdbot_site.security.models.keys import DataKey
from clawdbot_site.security.outbound import OutboundRefused, guarded_client
from tests.servers.vault import FakeVault

from .sealing import new_kek

AAD = b"place"
LABEL = encryption.wrapping_label(7, "encrypt")
KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def fresh_ring() -> Iterator[None]:
    key_ring.forget()
    yield
    key_ring.forget()


# -- a file --


@pytest.fixture
def key_file(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{new_kek()}\n{new_kek()},\n")
    path.chmod(0o600)
    settings.KEY_PROVIDER, settings.FIELD_ENCRYPTION_KEYS = "file", []
    settings.FIELD_ENCRYPTION_KEYS_FILE = str(path)
    return path


@pytest.mark.rule("E7")
def test_keys_of_a_file_wrap_and_a_new_one_counts_without_a_restart(key_file: Path) -> None:
    wrapped = key_providers.wrapping().wrap(KEY, LABEL)
    key_file.write_text(f"{new_kek()}\n{key_file.read_text()}")

    assert key_providers.unwrap(wrapped, LABEL) == KEY
    assert key_providers.wrapping().wrapping_keys()[1] == wrapped.kek_id
    assert key_providers.wrapping().rewrap(wrapped, LABEL).kek_id == key_providers.wrapping().wrapping_keys()[0]


@pytest.mark.rule("E7")
@pytest.mark.parametrize(("mode", "is_good"), [(0o400, 1), (0o640, 1), (0o604, 0), (0o660, 0), (0o602, 0), (0o644, 0)])
def test_a_key_file_that_others_can_open_stops_the_start(key_file: Path, mode: int, is_good: int) -> None:
    key_file.chmod(mode)

    said = [error.msg for error in key_ring.check_settings()]

    wrong = f"The key file {key_file} is open to others (mode {mode:o}). Run: chmod 600 {key_file}"
    assert said == ([] if is_good else [wrong])


@pytest.mark.rule("E7")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.unlink(), "cannot be read (No such file or directory)"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read (Is a directory)"),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), "is no file"),
        (lambda path: path.write_text(""), "holds no usable key: there is none"),
        (lambda path: path.write_text("c2hvcnQ="), "it has 5 bytes instead of 32"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "it is not base64"),
    ],
)
def test_a_key_file_that_is_none_stops_the_start(key_file: Path, make: Any, said: str) -> None:
    make(key_file)

    (error,) = key_ring.check_settings()

    assert said in error.msg
    assert error.is_serious()


def test_a_relative_key_file_is_refused(settings: Any) -> None:
    settings.KEY_PROVIDER, settings.FIELD_ENCRYPTION_KEYS_FILE = "file", "keys"

    assert [error.msg for error in key_ring.check_settings()] == [
        "FIELD_ENCRYPTION_KEYS_FILE must be an absolute path, not 'keys'."
    ]


# -- a Vault --


@pytest.fixture
def vault(tmp_path: Path, settings: Any) -> Iterator[FakeVault]:
    with FakeVault(tmp_path) as running:
        settings.KEY_PROVIDER, settings.FIELD_ENCRYPTION_KEYS = "vault", []
        settings.VAULT = running.settings()
        yield running


@pytest.fixture
def no_keys(db: None) -> None:
    """A new site: the keys of the tests' own database were wrapped otherwise."""
    DataKey.objects.all().delete()


def committed() -> None:
    """The tests' transaction never commits: say that it did, so that the process remembers the keys."""
    key_ring.primary_id()
    key_ring._uncommitted.clear()
    key_ring._load()


def trouble() -> str:
    with pytest.raises(KeysUnavailable) as caught:
        key_providers.wrapping().wrap(KEY, LABEL)
    return str(caught.value)


@pytest.mark.rule("E7")
def test_a_vault_wraps_and_opens_only_under_the_same_label(vault: FakeVault) -> None:
    wrapped = key_providers.wrapping().wrap(KEY, LABEL)

    assert (wrapped.kek_id, wrapped.data[:9]) == ("clawdbot:v1", b"vault:v1:")
    assert key_providers.unwrap(wrapped, LABEL) == KEY
    for label in (encryption.wrapping_label(8, "encrypt"), encryption.wrapping_label(7, "digest"), b""):
        with pytest.raises(DecryptionError):
            key_providers.unwrap(wrapped, label)
    for broken in (wrapped.data[:-4] + b"AAA=", b"vault:v9:AAAA", b"vault:v1:", b"vault:v1"):
        with pytest.raises(DecryptionError):
            key_providers.unwrap(Wrapped(broken, wrapped.kek_id), LABEL)


@pytest.mark.rule("E7")
def test_a_new_version_in_the_vault_only_rewraps_and_no_data_key_travels(no_keys: None, vault: FakeVault) -> None:
    sealed = key_ring.seal("secret", AAD)
    vault.rotate()
    vault.asked.clear()

    assert key_ring.rewrap() == 2
    assert vault.asked == ["GET transit/keys/clawdbot"] + ["POST transit/rewrap/clawdbot"] * 2
    assert set(DataKey.objects.values_list("kek_id", flat=True)) == {"clawdbot:v2"}
    vault.transit["clawdbot"].oldest = 2
    key_ring.forget()
    assert key_ring.unseal(sealed, AAD) == "secret"
    assert key_ring.rewrap() == 0


@pytest.mark.rule("E7")
def test_data_keys_are_opened_once_and_a_vault_that_is_down_stops_no_running_process(
    no_keys: None, vault: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_ring.open_at_start()
    committed()
    sealed = key_ring.seal("secret", AAD)
    asked = list(vault.asked)
    vault.is_sealed = True
    now_s = time.monotonic()
    monkeypatch.setattr(key_ring.time, "monotonic", lambda: now_s)

    for _ in range(5):
        now_s += key_ring.REFRESH_S + 1
        assert key_ring.unseal(key_ring.seal("again", AAD), AAD) == "again"
    key_ring.reread()
    assert key_ring.unseal(sealed, AAD) == "secret"
    assert vault.asked == asked


def test_a_new_key_that_cannot_be_opened_is_asked_for_every_few_seconds_only(
    no_keys: None, vault: FakeVault, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    committed()
    known, material = key_ring._loaded, dict(key_ring._material)
    key_ring.rotate()
    key_ring.forget()
    committed()
    new = key_ring.seal("by another process", AAD)
    key_ring._material.clear()
    key_ring._material.update(material)
    key_ring._loaded = known
    vault.is_sealed = True
    vault.asked.clear()

    for _ in range(3):
        with pytest.raises(DecryptionError):
            key_ring.unseal(new, AAD)
    assert vault.asked == ["POST transit/decrypt/clawdbot"]
    assert [record.message for record in caplog.records if "cannot be opened" in record.message]
    vault.is_sealed, key_ring._refused_at_s = False, -key_ring.REFRESH_S
    assert key_ring.unseal(new, AAD) == "by another process"


@pytest.mark.rule("E7")
def test_a_start_waits_for_a_sealed_vault_and_then_says_so(
    no_keys: None, vault: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("clawdbot_site.security.key_providers.vault_http.time.sleep", slept.append)
    sealed = (503, json.dumps({"errors": ["Vault is sealed"]}).encode())
    vault.answers += [lambda: sealed, lambda: (429, b""), lambda: (502, b"<html>")]
    key_ring.open_at_start()
    assert len(slept) == 3

    key_ring.forget()
    vault.is_sealed = True
    with key_providers.patiently(0.0), pytest.raises(KeysUnavailable) as caught:
        key_ring._load()
    assert str(caught.value) == (
        f"Vault at {vault.address} is sealed or is starting (Vault is sealed). See docs/operations.md, Vault."
    )


@pytest.mark.rule("E7")
def test_an_approle_signs_in_and_again_when_its_token_has_expired(vault: FakeVault, settings: Any) -> None:
    settings.VAULT = vault.settings(**vault.role())
    wrapped = key_providers.wrapping().wrap(KEY, LABEL)
    vault.expire_tokens()

    assert key_providers.unwrap(wrapped, LABEL) == KEY
    assert vault.asked.count("POST auth/approle/login") == 2


def test_a_role_that_is_gone_is_explained(vault: FakeVault, settings: Any) -> None:
    settings.VAULT = vault.settings(role_id="gone", secret_id="hunter2-gone")

    said = trouble()

    assert said.startswith(f"Vault at {vault.address} answers 400 to auth/approle/login (invalid role or secret ID)")
    assert "hunter2" not in said


def test_the_token_of_an_agent_is_read_at_each_call(vault: FakeVault, settings: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hvs.old")
    settings.VAULT = vault.settings(token_file=str(file))
    said = trouble()
    file.write_text(f"{vault.root_token}\n")

    assert said.startswith(f"Vault at {vault.address} refuses transit/encrypt/clawdbot: the token is wrong or has")
    assert key_providers.wrapping().wrap(KEY, LABEL).kek_id == "clawdbot:v1"
    file.unlink()
    assert trouble() == f"The token of Vault cannot be read from {file}. See docs/operations.md, Vault."


@pytest.mark.rule("E7")
def test_an_expired_token_and_a_narrow_policy_are_explained(vault: FakeVault) -> None:
    vault.tokens[vault.root_token] = frozenset({"transit/decrypt"})
    narrow = trouble()
    vault.expire_tokens()
    expired = trouble()

    for said in (narrow, expired):
        assert "refuses transit/encrypt/clawdbot: the token is wrong or has expired, or its policy" in said
        assert vault.root_token not in said


def test_a_token_is_prolonged_by_the_scheduler(vault: FakeVault, settings: Any) -> None:
    key_providers.wrapping().stay_signed_in()
    settings.VAULT = vault.settings(**vault.role())
    key_providers.wrapping().stay_signed_in()  # an AppRole signs in anew instead

    assert vault.renewed == [vault.root_token]


def test_a_namespace_and_a_key_of_another_name_are_sent_along(tmp_path: Path, settings: Any) -> None:
    with FakeVault(tmp_path, namespace="team/a") as vault:
        vault.transit["bots"] = vault.transit.pop("clawdbot")
        settings.KEY_PROVIDER = "vault"
        settings.VAULT = vault.settings(namespace="team/a", key="bots")
        assert key_providers.wrapping().wrap(KEY, LABEL).kek_id == "bots:v1"
        settings.VAULT = vault.settings(namespace="team/b", key="bots")
        assert f"Vault at {vault.address} has no transit/encrypt/bots: check VAULT_TRANSIT_MOUNT" in trouble()
        settings.VAULT = vault.settings(namespace="team/a", key="none")
        assert "answers 400 to transit/encrypt/none (encryption key not found)" in trouble()


@pytest.mark.rule("E13")
def test_a_certificate_that_nobody_trusts_is_refused(vault: FakeVault, settings: Any) -> None:
    settings.VAULT = vault.settings(ca_file="")

    assert trouble() == f"Vault at {vault.address} shows a certificate that nobody here trusts. Set VAULT_CACERT."
    assert vault.asked == []


def test_an_authority_that_cannot_be_read_is_explained(vault: FakeVault, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate")
    for path in (tmp_path / "none.pem", tmp_path / "broken.pem"):
        settings.VAULT = vault.settings(ca_file=str(path))
        assert trouble() == f"VAULT_CACERT: {path} holds no certificate that can be read."


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (307, b"", "is a standby that points elsewhere"),
        (200, b"<html>hello</html>", "is no Vault. Check VAULT_ADDR."),
        (200, b"[]", "is no Vault. Check VAULT_ADDR."),
        (200, b'{"data": {"ciphertext": "no"}}', "is no transit engine of Vault"),
        (
            500,
            b'{"errors": ["token=hvs.abcdefgh boom\\n"]}',
            "answers 500 to transit/encrypt/clawdbot (token=*** boom)",
        ),
    ],
)
def test_strange_answers_are_explained(vault: FakeVault, status: int, body: bytes, said: str) -> None:
    vault.answers.append(lambda: (status, body))

    assert said in trouble()


def test_a_vault_that_is_not_there_is_explained(vault: FakeVault, settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings.VAULT = vault.settings(address=f"https://localhost:{port}")

    assert trouble().startswith(f"Vault at https://localhost:{port} cannot be reached: ")


@pytest.mark.django_db
def test_a_private_address_of_a_vault_is_open_to_nobody_else(vault: FakeVault) -> None:
    """Else who may enter addresses of models could reach it."""
    assert key_providers.wrapping().wrap(KEY, LABEL)
    vault.asked.clear()
    with guarded_client() as other, pytest.raises(OutboundRefused):
        other.get(vault.address)

    assert vault.asked == []


@pytest.mark.rule("E7")
def test_an_installation_moves_into_a_vault_and_out_again(no_keys: None, vault: FakeVault, settings: Any) -> None:
    settings.KEY_PROVIDER, settings.FIELD_ENCRYPTION_KEYS = "env", [new_kek()]
    sealed = key_ring.seal("secret", AAD)

    settings.KEY_PROVIDER = "vault"
    key_ring.after_migrate()
    settings.FIELD_ENCRYPTION_KEYS = []
    key_ring.forget()
    assert key_ring.unseal(sealed, AAD) == "secret"
    assert set(DataKey.objects.values_list("kek_id", flat=True)) == {"clawdbot:v1"}

    settings.KEY_PROVIDER, settings.FIELD_ENCRYPTION_KEYS = "env", [new_kek()]
    key_ring.after_migrate()
    settings.VAULT = {**settings.VAULT, "address": ""}
    key_ring.forget()
    assert key_ring.unseal(sealed, AAD) == "secret"


@pytest.mark.django_db
def test_doctor_names_the_vault_and_what_is_wrong_with_it(settings: Any, request: pytest.FixtureRequest) -> None:
    old_keys = list(settings.FIELD_ENCRYPTION_KEYS)
    vault: FakeVault = request.getfixturevalue("vault")
    settings.FIELD_ENCRYPTION_KEYS = old_keys
    (line,) = doctor.keys()
    assert (line.level, line.what) == ("warning", "Some data keys are still wrapped by an older key-encryption key.")
    key_ring.after_migrate()
    (line,) = doctor.keys()
    assert (line.level, line.what) == (
        "ok",
        "All secrets can be opened; the data key is 0 days old, wrapped by clawdbot:v1.",
    )

    vault.is_sealed = True
    (line,) = doctor.keys()
    assert (line.level, "is sealed or is starting" in line.what) == ("failed", True)
