"""Rules E3 to E5 and E10 on a model: bound to the row, closed to queries, silent everywhere."""

from __future__ import annotations

import copy
import pickle
import uuid

import pytest
from django import forms
from django.core import serializers
from django.db import connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test.utils import CaptureQueriesContext, isolate_apps
from rest_framework.serializers import ModelSerializer

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import DecryptionError, key_id_of
from clawdbot_site.security.fields import EncryptedTextField, Sealed, WriteOnlySecretField
from clawdbot_site.security.models import SigningKey
from monitoring import audit

CANARY = "canary-5f0c-秘密"


class Keepsake(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, default="k", unique=True)
    secret = EncryptedTextField()
    second = EncryptedTextField(blank=True)

    class Meta:
        app_label = "tests_security"


class Locket(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    keepsake = models.ForeignKey(Keepsake, models.CASCADE)
    secret = EncryptedTextField(blank=True)

    class Meta:
        app_label = "tests_security"


class KeepsakeForm(forms.ModelForm):
    class Meta:
        model = Keepsake
        fields = ["name", "secret", "second"]


class PlainForm(KeepsakeForm):
    """A widget that would show its value, as an admin theme may choose one."""

    class Meta(KeepsakeForm.Meta):
        widgets = {"secret": forms.TextInput}


class KeepsakeSerializer(ModelSerializer):
    class Meta:
        model = Keepsake
        fields = ["secret"]


@pytest.fixture(scope="module", autouse=True)
def tables(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            editor.create_model(Keepsake)
            editor.create_model(Locket)
        yield
        with connection.schema_editor() as editor:
            editor.delete_model(Locket)
            editor.delete_model(Keepsake)


@pytest.fixture
def keepsake(db):
    return Keepsake.objects.get(pk=Keepsake.objects.create(secret=CANARY, second="two").pk)


@pytest.fixture
def signing_key(db):
    """For what needs a model of an installed app: copies and fixtures."""
    return SigningKey.objects.create(kid="k", private_pem=CANARY, public_jwk={}, state="retired")


def stored(row: models.Model, column: str = "secret") -> bytes:
    with connection.cursor() as cursor:
        pk = row._meta.pk.get_db_prep_value(row.pk, connection)
        cursor.execute(f"SELECT {column} FROM {row._meta.db_table} WHERE id = %s", [pk])
        return bytes(cursor.fetchone()[0])


def put(row: models.Model, sealed: bytes, column: str = "secret") -> None:
    type(row).objects.filter(pk=row.pk).update(**{column: Sealed(sealed)})


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


# -- closed to queries (E5) --


@pytest.mark.parametrize(
    "query",
    [
        lambda row: Keepsake.objects.update(secret=CANARY),
        lambda row: Keepsake.objects.update(secret=CANARY.encode()),
        lambda row: Keepsake.objects.update(secret=Value(CANARY)),
        lambda row: Keepsake.objects.update(secret=F("second")),
        lambda row: Keepsake.objects.update(secret=F("name")),
        lambda row: Keepsake.objects.update(secret=Concat("name", Value(CANARY))),
        lambda row: Keepsake.objects.update(secret=None),
        lambda row: Keepsake.objects.bulk_update([row], ["secret"]),
        lambda row: Keepsake.objects.bulk_create(
            [Keepsake(name=row.name, secret=CANARY)],
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["secret"],
        ),
        lambda row: Keepsake.objects.filter(secret=CANARY).count(),
        lambda row: Keepsake.objects.filter(secret=CANARY.encode()).count(),
        lambda row: Keepsake.objects.filter(secret=Value(CANARY)).count(),
        lambda row: Keepsake.objects.filter(secret=F("second")).count(),
        lambda row: Keepsake.objects.filter(secret__in=[CANARY]).count(),
        lambda row: Keepsake.objects.exclude(secret__contains=CANARY).count(),
        lambda row: Keepsake.objects.filter(secret__startswith=CANARY).count(),
        lambda row: Locket.objects.filter(keepsake__secret=CANARY).count(),
        lambda row: Keepsake.objects.get_or_create(secret=CANARY),
    ],
)
@pytest.mark.rule("E5")
def test_query_with_plaintext_is_refused(keepsake, query):
    before = stored(keepsake)
    keepsake.secret = "changed"

    with pytest.raises(TypeError, match=r"secret.*(lookup_hash)") as caught, transaction.atomic():
        query(keepsake)

    assert CANARY not in str(caught.value)
    assert stored(keepsake) == before
    assert Keepsake.objects.count() == 1


@pytest.mark.rule("E5")
def test_values_are_opaque(keepsake):
    rows = [*Keepsake.objects.values_list("secret", flat=True), Keepsake.objects.values("secret").get()["secret"]]

    for value in rows:
        assert isinstance(value, Sealed)
        assert {repr(value), str(value), f"{value}"} == {"Sealed()"}


# -- silent (E10) --


def test_fixtures_and_rest_show_only_the_sealed_form(keepsake):
    for fmt in ("json", "python", "xml"):
        assert CANARY not in str(serializers.serialize(fmt, [keepsake]))
    assert KeepsakeSerializer(keepsake).data["secret"].startswith("sealed:")


def test_fixture_is_not_loaded_as_a_secret(signing_key):
    (loaded,) = serializers.deserialize("json", serializers.serialize("json", [signing_key]))

    with pytest.raises(TypeError, match="private_pem"), transaction.atomic():
        loaded.save()


def test_audit_sees_that_a_secret_changed_and_not_what_it_is(keepsake):
    before = audit.snapshot(keepsake)
    keepsake.secret = "new"
    changes = audit.diff(before, audit.snapshot(keepsake))

    assert list(changes) == ["secret"]
    assert CANARY not in str(changes)
    assert "new" not in str(changes["secret"].values())


def test_audit_can_describe_a_row_whose_secret_is_broken(keepsake):
    put(keepsake, b"\x01broken")

    assert audit.snapshot(Keepsake.objects.get())["secret"].startswith("hmac:")


@pytest.mark.parametrize("form_class", [KeepsakeForm, PlainForm])
def test_form_never_renders_a_secret(keepsake, form_class):
    unbound = form_class(instance=keepsake)
    failed = form_class({"name": "", "secret": CANARY, "second": ""}, instance=keepsake)

    assert not failed.is_valid()
    for form in (unbound, failed):
        assert CANARY not in form.as_p()
        assert key_ring.fingerprint(CANARY) not in form.as_p()


def test_form_asks_with_a_password_input_and_starts_from_a_fingerprint(keepsake):
    form = KeepsakeForm(instance=keepsake)

    assert 'type="password"' in str(form["secret"])
    assert form.initial["secret"] == key_ring.fingerprint(CANARY)


def test_blank_keeps_the_old_secret(keepsake):
    before = stored(keepsake), stored(keepsake, "second")
    form = KeepsakeForm({"name": "renamed", "secret": "", "second": ""}, instance=keepsake)
    assert form.changed_data == ["name"]
    form.save()

    assert (stored(keepsake), stored(keepsake, "second")) == before
    assert Keepsake.objects.get().name == "renamed"


def test_given_secret_replaces_the_old_one(keepsake):
    form = KeepsakeForm({"name": "k", "secret": " new ", "second": ""}, instance=keepsake)
    assert form.changed_data == ["secret"]
    form.save()

    assert Keepsake.objects.get().secret == "new"


def test_secret_is_required_only_for_a_new_row(db):
    form = KeepsakeForm({"name": "k", "secret": "", "second": ""})

    assert form.errors == {"secret": ["This field is required."]}


def test_default_of_a_secret_is_not_shown():
    field = EncryptedTextField(default=lambda: CANARY)
    field.set_attributes_from_name("secret")

    shown = field.formfield()
    assert isinstance(shown, WriteOnlySecretField)
    assert (shown.initial, shown.show_hidden_initial) == (None, False)


# -- checks --


@isolate_apps("clawdbot_site.security")
def test_model_without_uuid_key_or_with_an_indexed_secret_fails_the_checks():
    class Wrong(models.Model):
        secret = EncryptedTextField(unique=True)

        class Meta:
            app_label = "security"

    assert [error.id for error in Wrong._meta.get_field("secret").check()] == ["security.E101", "security.E102"]
    assert Keepsake._meta.get_field("secret").check() == []
