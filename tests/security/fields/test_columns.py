"""Rules E3 to E5 on a model: a secret is text in Python, sealed in its column, and bound to its row."""

from __future__ import annotations

import copy
import pickle
import uuid

import pytest
from django.db import connection, models, transaction
from django.db.models import F, Value
from django.test.utils import CaptureQueriesContext, isolate_apps

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import DecryptionError, key_id_of
from clawdbot_site.security.fields import EncryptedTextField

from .keepsakes import CANARY, Keepsake, Locket, put, stored

# -- reading and writing --


def test_secret_is_text_in_python_and_sealed_in_the_database(keepsake):
    assert keepsake.secret == CANARY
    assert type(keepsake.secret) is str
    assert stored(keepsake)[:1] == b"\x01"
    assert CANARY.encode() not in stored(keepsake)


@pytest.mark.rule("E5")
def test_plaintext_never_becomes_part_of_a_statement(db):
    with CaptureQueriesContext(connection) as captured:
        row = Keepsake.objects.create(secret=CANARY)
        row.secret = CANARY + "2"
        row.save()
        Keepsake.objects.bulk_create([Keepsake(name="b", secret=CANARY)])

    statements = "".join(query["sql"] for query in captured)
    assert "tests_security_keepsake" in statements
    assert CANARY not in statements
    assert CANARY.encode().hex() not in statements.lower()


def test_unchanged_secret_is_written_back_as_it_was(keepsake):
    before = stored(keepsake)
    keepsake.secret = CANARY
    keepsake.name = "other"
    keepsake.save()

    assert stored(keepsake) == before


def test_changed_secret_is_sealed_with_a_fresh_nonce(keepsake):
    before = stored(keepsake), stored(keepsake, "second")
    keepsake.secret = "new"
    keepsake.save()
    keepsake.secret = CANARY
    keepsake.save()

    assert stored(keepsake) != before[0]
    assert stored(keepsake, "second") == before[1]
    assert Keepsake.objects.get().secret == CANARY


def test_stale_row_moves_to_the_present_key_when_it_is_saved(keepsake):
    new = key_ring.rotate()
    key_ring.forget()
    keepsake.save()

    assert key_id_of(stored(keepsake)) == new.key_id
    assert Keepsake.objects.get().secret == CANARY


def test_no_secret_is_stored_empty(db):
    row = Keepsake.objects.create(secret="", second="")

    assert stored(row) == b""
    assert Keepsake.objects.get(secret="").second == ""


def test_bulk_create_seals_each_row_for_itself(db):
    Keepsake.objects.bulk_create([Keepsake(name="a", secret="one"), Keepsake(name="b", secret="two")])

    assert [row.secret for row in Keepsake.objects.order_by("name")] == ["one", "two"]


def test_update_or_create_changes_a_secret(keepsake):
    Keepsake.objects.update_or_create(pk=keepsake.pk, defaults={"secret": "new"})

    assert Keepsake.objects.get().secret == "new"


def test_deferred_and_related_and_refreshed_secrets_are_read(keepsake):
    Locket.objects.create(keepsake=keepsake, secret="inner")
    keepsake.refresh_from_db()

    assert keepsake.secret == CANARY
    assert Keepsake.objects.only("name").get().secret == CANARY
    assert Keepsake.objects.defer("secret").get().secret == CANARY
    assert Locket.objects.select_related("keepsake").get().keepsake.secret == CANARY


def test_deferred_secret_is_written_back_as_it_was(keepsake):
    before = stored(keepsake)
    row = Keepsake.objects.defer("secret").get()
    assert row.secret == CANARY
    row.save()

    assert stored(row) == before


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))])
def test_copy_of_an_instance_reads_its_secret_and_holds_no_plaintext(signing_key, copied):
    assert signing_key.private_pem == CANARY
    twin = copied(signing_key)

    assert twin.private_pem == CANARY
    assert CANARY not in repr(twin.__dict__)
    assert CANARY.encode() not in pickle.dumps(twin)


@pytest.mark.rule("E5")
def test_saved_instance_holds_no_plaintext(db):
    row = Keepsake(secret=CANARY)
    row.save()

    assert CANARY not in repr(vars(row))
    assert row.secret == CANARY


@pytest.mark.parametrize("value", [None, b"raw", 7, Value(CANARY), F("second")])
@pytest.mark.rule("E5")
def test_only_text_can_be_assigned(value):
    with pytest.raises(TypeError, match="holds text"):
        Keepsake(secret=value)


def test_column_can_be_added_to_a_table_with_rows(transactional_db):
    keepsake = Keepsake.objects.create()
    Locket.objects.create(keepsake=keepsake)
    column = Locket._meta.get_field("secret")
    with connection.schema_editor() as editor:
        editor.remove_field(Locket, column)
    with connection.schema_editor() as editor:
        editor.add_field(Locket, column)

    row = Locket.objects.get()
    Locket.objects.all().delete()
    Keepsake.objects.all().delete()
    assert row.secret == ""


# -- bound to the row (E3, E4) --


@pytest.mark.rule("E3")
def test_secret_of_another_row_column_or_table_is_refused(keepsake):
    other = Keepsake.objects.create(name="other", secret=CANARY)
    locket = Locket.objects.create(keepsake=keepsake, secret=CANARY)

    for source, column in [(other, "secret"), (keepsake, "second"), (locket, "secret")]:
        put(keepsake, stored(source, column))
        with pytest.raises(DecryptionError):
            _ = Keepsake.objects.get(pk=keepsake.pk).secret


@pytest.mark.rule("E3")
def test_twin_table_with_the_same_key_is_refused(keepsake):
    locket = Locket.objects.create(pk=keepsake.pk, keepsake=keepsake)
    put(locket, stored(keepsake))

    with pytest.raises(DecryptionError):
        _ = Locket.objects.get().secret


@pytest.mark.rule("E4")
def test_every_altered_byte_in_the_database_is_refused(keepsake):
    good = stored(keepsake)
    for position in range(len(good)):
        put(keepsake, good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(DecryptionError):
            _ = Keepsake.objects.get().secret


def test_broken_secret_can_be_replaced(keepsake):
    put(keepsake, b"\x01broken")
    row = Keepsake.objects.get()
    row.secret = "new"
    row.save()

    assert Keepsake.objects.get().secret == "new"


@pytest.mark.rule("E3")
def test_clone_under_another_key_is_refused_when_it_is_saved(keepsake):
    keepsake.pk, keepsake.name = uuid.uuid4(), "clone"

    with pytest.raises(DecryptionError), transaction.atomic():
        keepsake.save()
    assert Keepsake.objects.count() == 1


# -- checks --


@isolate_apps("clawdbot_site.security")
def test_model_without_uuid_key_or_with_an_indexed_secret_fails_the_checks():
    class Wrong(models.Model):
        secret = EncryptedTextField(unique=True)

        class Meta:
            app_label = "security"

    assert [error.id for error in Wrong._meta.get_field("secret").check()] == ["security.E101", "security.E102"]
    assert Keepsake._meta.get_field("secret").check() == []
