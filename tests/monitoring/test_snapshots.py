from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from monitoring.models import Alert
from monitoring.snapshots import LONGEST_VALUE, clean, diff, digest, is_secret, snapshot


@pytest.mark.parametrize(
    "name", ["password", "app_secret", "verification_token", "api_key", "encrypt_key", "key", "key_hash", "url_key"]
)
def test_a_text_field_is_secret_when_its_name_says_so(name):
    field = models.CharField()
    field.name = name

    assert is_secret(field)


@pytest.mark.parametrize(
    "name", ["name", "max_tokens", "public_key", "key_id", "system_prompt", "tokenizer", "keyboard"]
)
def test_a_text_field_is_not_secret_when_its_name_only_resembles_one(name):
    field = models.CharField()
    field.name = name

    assert not is_secret(field)


def test_a_field_is_secret_when_it_says_so_itself():
    field = models.JSONField()
    field.name, field.is_secret = "harmless", True

    assert is_secret(field)


def test_a_number_is_not_secret_when_its_name_resembles_a_secret():
    field = models.IntegerField()
    field.name = "first_token"

    assert not is_secret(field)


@pytest.mark.rule("U2")
def test_snapshot_digests_secrets_when_a_user_has_a_password():
    user = get_user_model()(username="olga", password="pbkdf2$canary")

    taken = snapshot(user)

    assert taken["username"] == "olga"
    assert taken["password"] == digest("pbkdf2$canary")
    assert "canary" not in json.dumps(taken)


def test_snapshot_says_unreadable_when_a_secret_cannot_be_opened():
    class Broken(models.CharField):
        is_secret = True

        def value_from_object(self, obj):
            raise ValueError("wrong key")

    class Vault(models.Model):
        app_secret = Broken()

        class Meta:
            app_label = "monitoring"
            managed = False

    try:
        assert snapshot(Vault())["app_secret"] == "unreadable"
    finally:
        del Vault._meta.apps.all_models["monitoring"]["vault"]
        Vault._meta.apps.clear_cache()


def test_snapshot_lists_relations_when_asked(db):
    group = Group.objects.create(name="auditors")

    assert snapshot(group) == {"id": group.pk, "name": "auditors"}
    assert snapshot(group, many_to_many=True)["permissions"] == []


def test_snapshot_is_json_when_fields_are_of_odd_types():
    alert = Alert(rule="r", details={"app_secret": "canary", "at": datetime.date(2026, 1, 2)})

    taken = json.loads(json.dumps(snapshot(alert)))

    assert taken["id"] == str(alert.pk)
    assert taken["details"] == {"app_secret": "***", "at": "2026-01-02"}


def test_digest_depends_on_the_sites_key_when_it_changes(settings):
    before = digest("x")
    settings.SECRET_KEY = "another secret key of this site, long enough"

    assert digest("x") != before
    assert (digest(""), digest(None), digest(b"")) == ("", "", "")


def test_diff_shows_both_sides_when_fields_differ():
    assert diff({"a": 1, "b": 2}, {"a": 1, "b": 3}) == {"b": {"before": 2, "after": 3}}
    assert diff({}, {"a": 1, "b": "", "c": None, "d": False}) == {
        "a": {"before": None, "after": 1},
        "d": {"before": None, "after": False},
    }
    assert diff({"a": 1}, {}) == {"a": {"before": 1, "after": None}}


def test_clean_masks_by_name_when_callers_pass_secrets():
    given = {"app_secret": {"before": "old", "after": "new"}, "nested": [{"token": "t"}], "password": "", "token": 3}

    assert clean(given) == {
        "app_secret": {"before": "***", "after": "***"},
        "nested": [{"token": "***"}],
        "password": "",
        "token": 3,
    }
    assert clean({"api_key": {"before": "", "after": digest("k")}}) == {"api_key": {"before": "", "after": digest("k")}}


def test_clean_cuts_and_converts_when_values_are_long_or_odd():
    assert clean("x" * 5000) == "x" * LONGEST_VALUE + "… (5000 characters)"
    assert clean([Decimal("1.5"), uuid.UUID(int=1), float("nan"), object]) == [
        "1.5",
        "00000000-0000-0000-0000-000000000001",
        "nan",
        "<class 'object'>",
    ]


@given(st.recursive(st.none() | st.text() | st.floats() | st.binary(), lambda c: st.dictionaries(st.text(), c)))
def test_clean_gives_storable_json_when_values_are_anything(value):
    text = json.dumps(clean(value), allow_nan=False, ensure_ascii=False)

    text.encode()
    assert "\\u0000" not in text
