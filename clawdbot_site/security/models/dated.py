"""Rows whose secret has a clock: since when it is there, and by when it should be replaced (rule E8)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

LIFETIME: Final = timedelta(days=90)


class DatedSecrets(models.Model):
    """``save`` starts the clock when one of the secrets is given anew. A date given with a new row is kept."""

    DATED: ClassVar[tuple[str, ...]]

    secret_set_at = models.DateTimeField(_("secret set"), null=True, editable=False)
    rotate_by = models.DateField(_("rotate by"), null=True, blank=True)

    class Meta:
        abstract = True

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **kwargs: Any) -> None:
        fields = None if update_fields is None else set(update_fields)
        if self._is_given_anew(fields):
            self.secret_set_at = timezone.now()
            if not (self._state.adding and self.rotate_by):
                self.rotate_by = timezone.localdate(self.secret_set_at + LIFETIME)
            fields = fields and fields | {"secret_set_at", "rotate_by"}
        super().save(*args, update_fields=fields, **kwargs)

    @property
    def secret_made_at(self) -> datetime:
        """Rows of before the clock are as old as they are."""
        created_at: datetime = self.created_at  # type: ignore[attr-defined]  # every model with secrets has one
        return self.secret_set_at or created_at

    def _is_given_anew(self, fields: set[str] | None) -> bool:
        """What was read is sealed; what was assigned is text (see EncryptedTextField)."""
        names = self.DATED if fields is None else fields.intersection(self.DATED)
        return any(isinstance(self.__dict__.get(name), str) and self.__dict__[name] for name in names)
