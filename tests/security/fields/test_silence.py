"""Rule E10 on a model: fixtures, REST, the audit log and forms do not tell a secret."""

from __future__ import annotations

import pytest
from django.core import serializers
from django.db import transaction

from clawdbot_site.security import key_ring
from clawdbot_site.security.fields import EncryptedTextField, WriteOnlySecretField
from monitoring import audit

from .keepsakes import CANARY, Keepsake, KeepsakeForm, KeepsakeSerializer, PlainForm, put, stored


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
