"""Rules E1 to E7: the sealed format, everything that must not open, wrapping, and Tink on both sides."""

from __future__ import annotations

import base64
import hmac
import uuid

import pytest
import tink
from hypothesis import given
from hypothesis import strategies as st
from tink import aead, cleartext_keyset_handle
from tink.proto import aes_gcm_pb2, tink_pb2

from clawdbot_site.security import encryption, key_providers
from clawdbot_site.security.encryption import DecryptionError, Digests, KeyRing, NonceRepeated, NonceSource

from .sealing import AAD, new_kek

KEY_ID = 0x0A0B0C0D
KEY = bytes(range(32))


ring = KeyRing(KEY_ID, {KEY_ID: KEY})


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
