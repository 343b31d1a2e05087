"""Two models with secrets, their forms, and what stands in their columns."""

from __future__ import annotations

import uuid

from django import forms
from django.db import connection, models
from rest_framework.serializers import ModelSerializer

from clawdbot_site.security.fields import EncryptedTextField, Sealed

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


def stored(row: models.Model, column: str = "secret") -> bytes:
    with connection.cursor() as cursor:
        pk = row._meta.pk.get_db_prep_value(row.pk, connection)
        cursor.execute(f"SELECT {column} FROM {row._meta.db_table} WHERE id = %s", [pk])
        return bytes(cursor.fetchone()[0])


def put(row: models.Model, sealed: bytes, column: str = "secret") -> None:
    type(row).objects.filter(pk=row.pk).update(**{column: Sealed(sealed)})
