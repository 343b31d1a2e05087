"""Forms of models with secrets: what is stored shows as a fingerprint, and goes nowhere new unless given again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminTextInputWidget

from clawdbot_site.security.fields import EncryptedTextField, WriteOnlySecretField
from clawdbot_site.security.outbound import check_url


class AddressField(forms.CharField):
    """An address for outgoing calls, judged by the same guard that will make them; hosts without a dot are welcome."""

    def __init__(self, **options: Any) -> None:
        options = {"required": False, "widget": UnfoldAdminTextInputWidget(attrs={"inputmode": "url"}), **options}
        super().__init__(**options, validators=[check_url])


class SecretsForm(forms.ModelForm):
    """``moved_secrets`` go to ``base_url``: whoever enters another host there has to know them."""

    moved_secrets: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.secret_fields():
            field.widget = UnfoldAdminPasswordToggleWidget(
                attrs={"autocomplete": "new-password", "spellcheck": "false"}
            )
            if not self.instance._state.adding:
                field.help_text = format_html("{} {}", self._stored(name), field.help_text)

    def secret_fields(self) -> Iterator[tuple[str, forms.Field]]:
        return ((name, field) for name, field in self.fields.items() if isinstance(field, WriteOnlySecretField))

    def has_secret(self, name: str) -> bool:
        """Whether there will be one: given now, or stored."""
        return bool(self.cleaned_data.get(name) or self._fingerprint(name))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if "base_url" in data and not self.instance._state.adding and self._leads_elsewhere(data["base_url"]):
            for name in self.moved_secrets:
                if self._fingerprint(name) and not data.get(name):
                    self.add_error(name, ValidationError(_("Give it again: the address now leads to another host.")))
        return data

    def _leads_elsewhere(self, base_url: str) -> bool:
        return _origin(base_url) != _origin(type(self.instance)._base_manager.get(pk=self.instance.pk).base_url)

    def _fingerprint(self, name: str) -> str:
        field = self.instance._meta.get_field(name)
        assert isinstance(field, EncryptedTextField)
        return "" if self.instance._state.adding else field.value_from_object(self.instance)

    def _stored(self, name: str) -> str:
        if fingerprint := self._fingerprint(name):
            text = _("Stored, fingerprint {}. Leave blank to keep it.")
            return format_html(str(text), format_html('<code class="cb-code">{}</code>', fingerprint))
        return str(_("None stored."))

    def _get_validation_exclusions(self) -> set[str]:
        """``AddressField`` has judged the address; the model's own check refuses hosts of a private network's DNS."""
        return {*super()._get_validation_exclusions(), "base_url"}  # type: ignore[misc]  # a form's method that the stubs leave out


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
