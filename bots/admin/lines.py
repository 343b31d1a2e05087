"""Fields of lists: one entry a line in a form, a list to Python and in the table."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextareaWidget

from bots.models.bot import LINK_HOST, LONGEST_ALLOWED, MOST_ALLOWED, MOST_LINK_HOSTS


class LinesField(forms.CharField):
    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3})
    most = MOST_ALLOWED

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (initial or []) != self.to_python(data)

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]  # a list of lines, as the model keeps it
        return value if isinstance(value, list) else str(value or "").split()

    def validate(self, value: list[str]) -> None:
        if len(value) > self.most:
            raise ValidationError(_("At most %(most)d lines."), params={"most": self.most})
        for line in value:
            self.check_line(line)

    def check_line(self, line: str) -> None:
        if len(line) > LONGEST_ALLOWED:
            raise ValidationError(_("%(line)s… is too long for an ID."), params={"line": line[:20]})

    def run_validators(self, value: list[str]) -> None:
        """Those of a text do not apply."""


class HostsField(LinesField):
    most = MOST_LINK_HOSTS

    def check_line(self, line: str) -> None:
        if not LINK_HOST.fullmatch(line):
            text = _("%(host)s is no host name. Write it in lower case, like docs.example.com.")
            raise ValidationError(text, params={"host": line})
