"""Rules E7 and E8: the ring of a process makes keys, rotates them, follows others and needs wrapping keys."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from clawdbot_site.security import encryption, key_ring
from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.models.keys import DataKey
from tests import logged

from .sealing import AAD, new_kek

# -- the ring of this process --


@pytest.fixture
def fresh_ring():
    key_ring.forget()
    yield
    key_ring.forget()


@pytest.fixture
def no_keys(db, fresh_ring):
    DataKey.objects.all().delete()


@pytest.mark.rule("E7")
def test_first_need_makes_one_wrapped_key_of_each_purpose(no_keys):
    sealed = key_ring.seal("secret", AAD)

    assert key_ring.unseal(sealed, AAD) == "secret"
    assert sorted(DataKey.objects.values_list("purpose", "state")) == [("digest", "primary"), ("encrypt", "primary")]
    material = key_ring._current().keys.values()
    assert not any(key in bytes(row.wrapped) for row in DataKey.objects.all() for key in material)


def test_key_made_in_a_transaction_is_forgotten_when_it_rolls_back(no_keys):
    with transaction.atomic():
        lost = encryption.key_id_of(key_ring.seal("secret", AAD))
        transaction.set_rollback(True)

    kept = encryption.key_id_of(key_ring.seal("secret", AAD))

    assert kept != lost
    assert DataKey.objects.filter(key_id=kept).exists()


def test_fingerprint_and_lookup_hash_survive_a_rotation(db, fresh_ring):
    before = key_ring.fingerprint("secret"), key_ring.lookup_hash("secret")
    key_ring.rotate()
    key_ring.forget()

    assert (key_ring.fingerprint("secret"), key_ring.lookup_hash("secret")) == before


def test_rotation_keeps_what_was_sealed_and_seals_under_the_new_key(db, fresh_ring):
    old = key_ring.seal("old", AAD)
    new_key = key_ring.rotate()
    key_ring.forget()

    assert key_ring.unseal(old, AAD) == "old"
    assert encryption.key_id_of(key_ring.seal("new", AAD)) == new_key.key_id


def test_value_sealed_elsewhere_after_a_rotation_opens_at_once(db, fresh_ring):
    key_ring.seal("warm", AAD)
    known = key_ring._loaded
    key_ring.rotate()
    key_ring.forget()
    elsewhere = key_ring.seal("new", AAD)
    key_ring._loaded = known  # what another process still has

    assert key_ring.unseal(elsewhere, AAD) == "new"


def test_another_processs_rotation_is_followed_within_the_refresh_time(db, fresh_ring, monkeypatch):
    key_ring.seal("warm", AAD)
    known = key_ring._loaded
    new_key = key_ring.rotate()
    key_ring._loaded = known
    monkeypatch.setattr(key_ring, "_uncommitted", set())  # it was another process's transaction
    now_s = known.read_at_s
    monkeypatch.setattr(key_ring.time, "monotonic", lambda: now_s)

    assert encryption.key_id_of(key_ring.seal("x", AAD)) == known.ring.primary_id
    now_s += key_ring.REFRESH_S + 0.1
    assert encryption.key_id_of(key_ring.seal("x", AAD)) == new_key.key_id


def test_two_primaries_are_refused_by_the_database(db, fresh_ring):
    key_ring.primary_id()
    with pytest.raises(IntegrityError), transaction.atomic():
        key_ring._create(DataKey, "default", "encrypt")


@pytest.mark.rule("E8")
def test_scheduler_rotates_after_ninety_days_or_two_to_the_thirty_uses(db, fresh_ring):
    key_ring.primary_id()
    primary = DataKey.objects.filter(purpose="encrypt", state="primary")

    assert key_ring.rotate_if_due() is None
    primary.update(created_at=timezone.now() - key_ring.ROTATE_AFTER)
    assert key_ring.rotate_if_due() is not None
    primary.update(uses=2**30 * 3 // 4)
    assert key_ring.rotate_if_due() is not None
    assert key_ring.rotate_if_due() is None


@pytest.mark.rule("E8")
def test_uses_are_counted_a_block_ahead(db, fresh_ring, monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr(key_ring, "_uses_left", {})
    monkeypatch.setattr(key_ring, "USES_PER_BLOCK", 4)
    primary = DataKey.objects.filter(key_id=key_ring.primary_id())
    before = primary.get().uses
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(5):
            key_ring.seal("x", AAD)

    assert primary.get().uses == before + 8


# -- key-encryption keys --


@pytest.mark.rule("E7")
def test_new_wrapping_key_only_wraps_again(db, fresh_ring, settings):
    sealed, old_kek, new = key_ring.seal("secret", AAD), settings.FIELD_ENCRYPTION_KEYS, new_kek()
    before = dict(DataKey.objects.values_list("key_id", "wrapped"))

    settings.FIELD_ENCRYPTION_KEYS = [new, *old_kek]
    key_ring.after_migrate()
    settings.FIELD_ENCRYPTION_KEYS = [new]

    assert key_ring.unseal(sealed, AAD) == "secret"
    after = dict(DataKey.objects.values_list("key_id", "wrapped"))
    assert before.keys() == after.keys()
    assert all(bytes(before[key]) != bytes(after[key]) for key in before)
    assert DataKey.objects.values("kek_id").distinct().count() == 1


@pytest.mark.rule("E7")
def test_lost_wrapping_key_is_named(db, fresh_ring, settings):
    key_ring.primary_id()
    key_ring.forget()
    lost = DataKey.objects.first().kek_id
    settings.FIELD_ENCRYPTION_KEYS = [new_kek()]

    with pytest.raises(key_ring.KeysUnavailable, match=lost):
        key_ring.seal("secret", AAD)


def test_process_without_the_newest_wrapping_key_goes_on_with_what_it_has(db, fresh_ring, settings, caplog):
    old = key_ring.seal("old", AAD)
    known, old_kek = key_ring._loaded, settings.FIELD_ENCRYPTION_KEYS
    settings.FIELD_ENCRYPTION_KEYS = [new_kek(), *old_kek]
    key_ring.rotate()
    key_ring.forget()
    new = key_ring.seal("new", AAD)
    settings.FIELD_ENCRYPTION_KEYS = old_kek
    key_ring.forget()
    key_ring._loaded = known  # another process, that was not told the newest

    with pytest.raises(DecryptionError):
        key_ring.unseal(new, AAD)
    assert key_ring.unseal(old, AAD) == "old"
    assert [record.levelname for record in logged.by(caplog, "clawdbot_site.security.key_ring")] == ["WARNING"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KEY_PROVIDER", "drawer", "KEY_PROVIDER=drawer is not supported"),
        ("FIELD_ENCRYPTION_KEYS", [], "holds no usable key: there is none"),
        ("FIELD_ENCRYPTION_KEYS", ["c2hvcnQ="], "it has 5 bytes instead of 32"),
        ("FIELD_ENCRYPTION_KEYS", ["?"], "it is not base64"),
    ],
)
@pytest.mark.rule("E7")
def test_start_stops_when_the_wrapping_keys_are_not_there(settings, name, value, said):
    setattr(settings, name, value)

    (error,) = key_ring.check_settings()

    assert error.is_serious()
    assert said in error.msg


def test_start_goes_on_with_good_settings(settings):
    assert key_ring.check_settings() == []
