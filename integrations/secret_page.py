"""The admin's page for changing an app's secrets: three steps, and where the change stands now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminTextInputWidget

from integrations import secret_change
from integrations.models import Platform, PlatformCredential
from integrations.registry import adapter_for

WORDS: Final[dict[secret_change.State, Any]] = {
    "none": gettext_lazy("No secret is being changed."),
    "refused": gettext_lazy("The platform refuses the new secret. The old one goes on."),
    "entered": gettext_lazy("Both secrets are valid. Not every new one is proved yet."),
    "proved": gettext_lazy("The new secret is proved and in use; the old one is still valid as well."),
}
DINGTALK_LABELS: Final = {
    "app_secret": gettext_lazy("new Client Secret"),
    "verification_token": gettext_lazy("new Token of the event settings"),
    "encrypt_key": gettext_lazy("new AES key of the event settings"),
}


class NewSecretForm(forms.Form):
    """Never shows what was entered. The old secret's end: in so many days, or by hand."""

    def __init__(self, credential: PlatformCredential, data: Any = None) -> None:
        super().__init__(data)
        self._credential = credential
        for name in PlatformCredential.SECRETS:
            self.fields[name] = self._secret(name)
        self.fields["retire_after_days"] = forms.IntegerField(
            label=_("Retire the old secret after days"),
            initial=secret_change.RETIRE_AFTER.days,
            required=False,
            min_value=1,
            max_value=90,
            help_text=_("Once the new one is proved. Empty: only by the button."),
            widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "numeric"}),
        )

    def _secret(self, name: str) -> forms.Field:
        label: Any = secret_change.label(f"next_{name}")
        if self._credential.platform == Platform.DINGTALK:
            label = DINGTALK_LABELS[name]
        attrs = {"autocomplete": "new-password", "spellcheck": "false"}
        return forms.CharField(
            label=label, required=False, max_length=1000, widget=UnfoldAdminPasswordToggleWidget(attrs=attrs)
        )

    def secrets(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in PlatformCredential.SECRETS if self.cleaned_data[name]}

    def retire_after(self) -> timedelta | None:
        days = self.cleaned_data["retire_after_days"]
        return timedelta(days=days) if days else None

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        entered = {name: data.get(name) or "" for name in PlatformCredential.SECRETS}
        held = [name for name in PlatformCredential.SECRETS if entered[name] or getattr(self._credential, name)]
        for name, text in adapter_for(self._credential.platform).credential_faults(entered, held).items():
            self.add_error(name, forms.ValidationError(text))
        return data


def page(request: HttpRequest, credential: PlatformCredential, context: dict[str, Any]) -> HttpResponse:
    """GET shows where the change stands, POST takes one step. The caller has checked the permission."""
    form = NewSecretForm(credential, request.POST if request.POST.get("step") == "enter" else None)
    if request.method == "POST" and _step(request, credential, form):
        return HttpResponseRedirect(reverse("admin:integrations_platformcredential_secret", args=[credential.pk]))
    state = secret_change.state(credential)
    labels = {name: form.fields[name].label for name in PlatformCredential.SECRETS}
    context |= {
        "title": _("Changing a secret of %(credential)s") % {"credential": credential},
        "credential": credential,
        "form": form,
        "state": state,
        "words": WORDS[state],
        "fingerprints": [(labels[name], text) for name, text in secret_change.fingerprints(credential).items()],
        "unproved": [labels[name] for name in secret_change.unproved(credential)],
    }
    return TemplateResponse(request, "integrations/secret_page.html", context)


def _step(request: HttpRequest, credential: PlatformCredential, form: NewSecretForm) -> bool:
    """Take the step that was asked for; False when there is something to correct first."""
    steps: dict[str, Callable[[], object]] = {
        "enter": lambda: secret_change.enter(credential, form.secrets(), form.retire_after()),
        "try": lambda: secret_change.try_new(credential),
        "retire": lambda: secret_change.retire_old(credential, even_unproved="even_unproved" in request.POST),
        "withdraw": lambda: secret_change.withdraw(credential),
    }
    step = request.POST.get("step", "")
    if step not in steps or (step == "enter" and not form.is_valid()):
        return False
    try:
        steps[step]()
    except secret_change.CannotChange as error:
        messages.error(request, str(error))
        return False
    messages.success(request, str(WORDS[secret_change.state(credential)]))
    return True
