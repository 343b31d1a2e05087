"""How old the API keys of services are, for the clock of all secrets (rule E8)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from clawdbot_site.security.key_clock import Dated, due_date
from clawdbot_site.security.models.dated import DatedSecrets
from inference.models import LanguageModel, ModelKey

DATES = ("secret_set_at", "rotate_by", "created_at")


def ages() -> Iterator[Dated]:
    for model in LanguageModel.objects.exclude(api_key="").only("name", *DATES):
        yield _dated(model, f"model:{model.pk}", _("The API key of the model %(model)s") % {"model": model})
    further = ModelKey.objects.filter(is_enabled=True).exclude(key="").select_related("model")
    for key in further.only("name", "model__name", *DATES):
        name = _("The API key %(key)s of the model %(model)s") % {"key": key, "model": key.model}
        yield _dated(key, f"model key:{key.pk}", name)


def _dated(row: DatedSecrets, subject: str, name: str) -> Dated:
    made_at = row.secret_made_at
    return Dated("model_key", subject, name, made_at, row.rotate_by or due_date(made_at))
