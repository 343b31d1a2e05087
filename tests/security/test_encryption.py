"""Rules E1 to E7: the sealed format, everything that must not open, the ring of a process, wrapping."""

from __future__ import annotations

import base64
import hmac
import os
import uuid

import pytest
import tink
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from tink import aead, cleartext_keyset_handle
from tink.proto import aes_gcm_pb2, tink_pb2

from clawdbot_site.security import encryption, key_providers, key_ring
from clawdbot_site.security.encryption import DecryptionError, Digests, KeyRing, NonceRepeated, NonceSource
from clawdbot_site.security.models.keys import DataKey
from tests import logged

KEY_ID = 0x0A0B0C0D
KEY = bytes(range(32))
AAD = encryption.associated_data("bots", "endpoint", "key", uuid.UUID(int=7))
ring = KeyRing(KEY_ID, {KEY_ID: KEY})


def new_kek() -> str:
    return base64.b64encode(os.urandom(32)).decode()


# -- the format --


@pytest.mark.rule("E1")
def test_known_answer_opens():
    """McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    aad = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    body = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )

    opened = KeyRing(5, {5: key}).open_bytes(b"\x01\x00\x00\x00\x05" + nonce + body, aad)

    assert opened.hex() == (
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )


@pytest.mark.rule("E2")
def test_sealed_value_carries_version_and_key_id():
    sealed = ring.seal("密钥", AAD)

    assert sealed[:5] == b"\x01\x0a\x0b\x0c\x0d"
    assert len(sealed) == 5 + 12 + len("密钥".encode()) + 16
    assert ring.open(sealed, AAD) == "密钥"


@pytest.mark.rule("E1")
def test_two_seals_differ_when_text_is_the_same():
    assert ring.seal("same", AAD) != ring.seal("same", AAD)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=64))
@pytest.mark.rule("E2")
def test_any_text_comes_back(text, aad):
    assert ring.open(ring.seal(text, aad), aad) == text


def test_lone_surrogate_is_refused_without_quoting_the_secret():
    with pytest.raises(ValueError, match=r"^A secret must be valid Unicode text\.$") as caught:
        ring.seal("hunter2\udc80", AAD)

    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.rule("E1")
def test_constant_nonce_source_is_refused():
    source = NonceSource(lambda size: b"\0" * size)
    source.fresh()

    with pytest.raises(NonceRepeated):
        source.fresh()


# -- what must not open --


@pytest.mark.rule("E2")
@pytest.mark.rule("E4")
def test_every_flipped_bit_is_refused():
    sealed = ring.seal("secret", AAD)

    for position in range(len(sealed)):
        for bit in range(8):
            broken = bytearray(sealed)
            broken[position] ^= 1 << bit
            with pytest.raises(DecryptionError):
                ring.open(bytes(broken), AAD)


@pytest.mark.rule("E4")
def test_every_truncation_and_extension_is_refused():
    sealed = ring.seal("secret", AAD)

    for broken in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", sealed[1:]]:
        with pytest.raises(DecryptionError):
            ring.open(broken, AAD)


@given(st.binary(max_size=80))
@pytest.mark.rule("E2", "E4")
def test_random_bytes_are_refused(data):
    for sealed in (data, b"\x01" + data, encryption.key_prefix(KEY_ID) + data):
        with pytest.raises(DecryptionError):
            ring.open(sealed, AAD)


@pytest.mark.parametrize("other", [KeyRing(KEY_ID, {KEY_ID: bytes(31) + b"\1"}), KeyRing(9, {9: KEY})])
@pytest.mark.rule("E2", "E4")
def test_wrong_key_or_unknown_id_is_refused(other):
    with pytest.raises(DecryptionError):
        other.open(ring.seal("secret", AAD), AAD)


@pytest.mark.rule("E4")
def test_sealed_bytes_that_are_no_text_are_refused():
    with pytest.raises(DecryptionError):
        ring.open(ring.seal_bytes(b"\xff\xfe", AAD), AAD)


@pytest.mark.rule("E2", "E4")
def test_error_says_the_same_whatever_is_wrong():
    sealed = ring.seal("secret", AAD)
    said = set()
    for broken in (b"", b"\x02" + sealed[1:], sealed[:-1], sealed[:1] + b"\0\0\0\0" + sealed[5:]):
        with pytest.raises(DecryptionError) as caught:
            ring.open(broken, AAD)
        said.add(str(caught.value))

    assert len(said) == 1


@pytest.mark.rule("E3")
def test_places_are_told_apart_when_their_names_run_together():
    pk = uuid.UUID(int=1)
    places = [("a", "bc", "d"), ("ab", "c", "d"), ("a", "b", "cd"), ("abc", "", "d"), ("a", "bcd", "")]

    assert len({encryption.associated_data(*place, pk) for place in places}) == len(places)
    assert encryption.associated_data("a", "b", "c", pk) != encryption.associated_data("a", "b", "c", uuid.UUID(int=2))


def test_ring_shows_no_key():
    assert KEY.hex() not in repr(ring)
    assert repr(KEY) not in repr(ring)
    assert repr(Digests(KEY)) == "Digests()"


# -- Google's Tink reads ours, we read Tink's --


@pytest.fixture(scope="module")
def tink_aead():
    aead.register()
    key = aes_gcm_pb2.AesGcmKey(version=0, key_value=KEY).SerializeToString()
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmKey",
        value=key,
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    entry = tink_pb2.Keyset.Key(key_data=data, status=tink_pb2.ENABLED, key_id=KEY_ID, output_prefix_type=tink_pb2.TINK)
    keyset = tink_pb2.Keyset(primary_key_id=KEY_ID, key=[entry]).SerializeToString()
    handle = cleartext_keyset_handle.read(tink.BinaryKeysetReader(keyset))
    return handle.primitive(aead.Aead)


@pytest.mark.rule("E6")
def test_tink_opens_ours(tink_aead):
    assert tink_aead.decrypt(ring.seal("von uns", AAD), AAD) == b"von uns"


@pytest.mark.rule("E6")
def test_we_open_tinks(tink_aead):
    assert ring.open(tink_aead.encrypt("从 Tink".encode(), AAD), AAD) == "从 Tink"


# -- key-encryption keys and digests --


@pytest.mark.parametrize("text", ["", "short", "!" * 44, base64.b64encode(bytes(32)).decode(), "A" * 43, "ü" * 44])
def test_unusable_key_is_refused_without_quoting_it(text):
    with pytest.raises(ValueError) as caught:
        encryption.decode_key(text)

    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["=", ""])
def test_key_is_read_in_either_base64(encode, padding):
    key = bytes(range(224, 256))
    assert encryption.decode_key(f" {encode(key).decode().rstrip('=')}{padding}\n") == key


@pytest.mark.rule("E7")
def test_wrapped_key_opens_only_under_its_own_id_and_purpose(settings):
    settings.FIELD_ENCRYPTION_KEYS = [new_kek()]
    wrapped = key_providers.wrapping().wrap(KEY, encryption.wrapping_label(7, "encrypt"))

    assert KEY not in wrapped.data
    assert key_providers.unwrap(wrapped, encryption.wrapping_label(7, "encrypt")) == KEY
    for key_id, purpose in [(8, "encrypt"), (7, "digest")]:
        with pytest.raises(DecryptionError):
            key_providers.unwrap(wrapped, encryption.wrapping_label(key_id, purpose))


def test_digests_are_keyed_stable_and_apart():
    digests = Digests(KEY)

    assert digests.lookup_hash("url-key") == hmac.new(KEY, b"lookup\0url-key", "sha256").hexdigest()
    assert len(digests.fingerprint("secret")) == 12
    assert digests.fingerprint("secret") != digests.lookup_hash("secret")[:12]
    assert digests.fingerprint("secret") != Digests(bytes(32)).fingerprint("secret")
    assert digests.fingerprint("") == ""


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
