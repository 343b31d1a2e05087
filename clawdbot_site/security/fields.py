"""A model field for secrets: text to Python, AES-256-GCM to the database, nothing to anybody else.

The ciphertext is bound to app, model, column and primary key (rule E3), so a copied row, or a renamed model or column,
needs its secrets given anew. Plaintext never becomes part of a query: ``update``, ``bulk_update``, ``filter`` and
expressions raise TypeError (rule E5); ``save`` and ``bulk_create`` are the only ways in.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from django import forms
from django.core import checks
from django.db import models
from django.db.models.constants import OnConflict
from django.db.models.lookups import Exact
from django.db.models.query_utils import DeferredAttribute
from django.utils.crypto import constant_time_compare

from clawdbot_site.security import key_ring
from clawdbot_site.security.encryption import DecryptionError, associated_data, key_id_of

if TYPE_CHECKING:
    TextColumn = models.Field[str, str]
else:
    TextColumn = models.Field


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it lies in the database, empty where there is none. Shows nothing of itself."""

    data: bytes = field(repr=False)


class SecretAttribute(DeferredAttribute):
    """Opens the secret each time it is read; the instance itself keeps the sealed form until somebody assigns."""

    field: EncryptedTextField

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        if instance is None:
            return self
        stored = self.field.stored(instance)
        return self.field.unseal(instance, stored) if isinstance(stored, Sealed) else stored

    def __set__(self, instance: models.Model, value: object) -> None:
        if not isinstance(value, str | Sealed):
            raise TypeError(f"{self.field} holds text; '' stands for no secret.")
        if isinstance(value, Sealed) or not self.field.is_unchanged(instance, value):
            instance.__dict__[self.field.attname] = value


class SealedExact(Exact):
    """The one comparison: with a sealed value as read before, or with '' for no secret."""

    def get_prep_lookup(self) -> Sealed:
        return self.lhs.output_field.get_prep_value(self.rhs)  # type: ignore[no-any-return]  # a lookup's rhs is anything


class EncryptedTextField(TextColumn):
    """A secret text. The model needs a UUID primary key with a default; '' means no secret and is stored empty."""

    description = "Secret text, encrypted"
    descriptor_class = SecretAttribute
    is_secret = True  # for whoever renders, exports or compares fields in general

    def get_internal_type(self) -> str:
        return "BinaryField"

    # -- between the instance and the ciphertext --

    def stored(self, instance: models.Model) -> str | Sealed:
        """What the instance holds: the sealed value as read, or text that was assigned. Loads a deferred one."""
        if self.attname not in instance.__dict__:
            rows = type(instance)._base_manager.db_manager(instance._state.db, hints={"instance": instance})
            instance.__dict__[self.attname] = rows.values_list(self.attname, flat=True).get(pk=instance.pk)
        stored: str | Sealed = instance.__dict__[self.attname]
        return stored

    def seal(self, instance: models.Model, text: str) -> Sealed:
        return self.sealed(instance.pk, text)

    def sealed(self, pk: object, text: str) -> Sealed:
        """For a row that has no instance yet."""
        return Sealed(key_ring.seal(text, self.aad(pk)) if text else b"")

    def unseal(self, instance: models.Model, sealed: Sealed) -> str:
        """Raises DecryptionError."""
        return key_ring.unseal(sealed.data, self.aad(instance.pk)) if sealed.data else ""

    def aad(self, pk: object) -> bytes:
        meta = self.model._meta
        return associated_data(meta.app_label, str(meta.model_name), str(self.column), uuid.UUID(str(pk)))

    def is_unchanged(self, instance: models.Model, text: str) -> bool:
        """Whether this text is what is sealed already: forms and ``full_clean`` assign what they have just read."""
        held = instance.__dict__.get(self.attname)
        try:
            return isinstance(held, Sealed) and constant_time_compare(self.unseal(instance, held), text)
        except DecryptionError:
            return False  # a broken secret can always be replaced

    def pre_save(self, instance: models.Model, add: bool) -> Sealed:
        """Seal what was assigned; write what was read back as it was, unless its key was rotated meanwhile."""
        held = self.stored(instance)
        if isinstance(held, str) or self._must_be_sealed_again(held, add):
            held = self.seal(instance, held if isinstance(held, str) else self.unseal(instance, held))
        instance.__dict__[self.attname] = held
        return held

    def _must_be_sealed_again(self, held: Sealed, add: bool) -> bool:
        """An inserted row's secret is opened first: a copy under another primary key must fail now, not when read."""
        return bool(held.data) and (add or key_id_of(held.data) != key_ring.primary_id())

    # -- between the ciphertext and the database --

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(bytes(value))

    def get_prep_value(self, value: Any) -> Sealed:
        if isinstance(value, Sealed):
            return value
        if isinstance(value, str | bytes) and not value:  # no secret; bytes are what a migration's AddField gives
            return Sealed(b"")
        return self._refuse("A secret cannot be part of a query")

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return connection.Database.Binary(self.get_prep_value(value).data)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return self.get_db_prep_value(value, connection)  # Django's own lets expressions pass

    def get_placeholder(self, value: Any, compiler: Any, connection: Any) -> Any:
        query = compiler.query
        if getattr(query, "on_conflict", None) == OnConflict.UPDATE and self in query.update_fields:
            self._refuse("An upsert would bind a secret to the wrong row")
        return connection.ops.binary_placeholder_sql(value)

    def get_lookup(self, lookup_name: str) -> Any:
        allowed = {"exact": SealedExact, "isnull": super().get_lookup("isnull")}
        return allowed.get(lookup_name) or self._refuse(f"A secret cannot be searched ({lookup_name})")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(f"{what}: {self}. Assign it to an instance and save that; to search, store a lookup_hash.")

    # -- forms, fixtures, checks --

    def value_to_string(self, obj: models.Model) -> str:
        """The sealed form, for fixtures; loading it is refused, since no other installation could open it."""
        held = self.stored(obj)
        sealed = held if isinstance(held, Sealed) else self.seal(obj, held)
        return f"sealed:{base64.b64encode(sealed.data).decode()}"

    def value_from_object(self, obj: models.Model) -> str:
        """A fingerprint: enough for the audit log to see a change, and all that a form gets as its initial value."""
        try:
            return key_ring.fingerprint(getattr(obj, self.attname))
        except DecryptionError:
            return "undecryptable"

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        if data:  # blank keeps the old secret
            setattr(instance, self.attname, data)

    def formfield(self, **kwargs: Any) -> Any:
        usual = {"form_class": WriteOnlySecretField, "max_length": self.max_length}
        never = {"initial": None, "show_hidden_initial": False}  # a default is a secret, too
        return super().formfield(**{**usual, **kwargs, **never})

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *self._check_primary_key(), *self._check_options()]

    def _check_primary_key(self) -> list[checks.CheckMessage]:
        pk = self.model._meta.pk
        if isinstance(pk, models.UUIDField) and pk.has_default():
            return []
        hint = "Secrets are bound to their row before it is inserted: give the model a UUIDField key with a default."
        return [checks.Error(f"{self.model.__name__} needs a UUID primary key.", hint, self, "security.E101")]

    def _check_options(self) -> list[checks.CheckMessage]:
        if not any(getattr(self, option) for option in ("null", "unique", "db_index", "choices")):
            return []
        hint = "Equal secrets have different ciphertexts; '' stands for no secret."
        return [checks.Error("A secret cannot be null, unique, indexed or a choice.", hint, self, "security.E102")]


class WriteOnlySecretField(forms.CharField):
    """Takes a secret and never shows one. Blank keeps the secret of a row that is already there."""

    widget = forms.PasswordInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widget.attrs.setdefault("autocomplete", "new-password")

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> forms.BoundField:
        instance = getattr(form, "instance", None)
        if instance is not None and not instance._state.adding:
            self.required = self.widget.is_required = False
        return super().get_bound_field(form, field_name)

    def prepare_value(self, value: Any) -> str:
        """What any widget renders, for the row's value and for what was just posted."""
        return ""

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)
