"""What a person does about a model, in the admin or over REST: ask it something, accept its files."""

from __future__ import annotations

from django.conf import settings

from inference import health
from inference.models import LanguageModel
from inference.tasks import check_model
from monitoring import audit


def ask(model: LanguageModel) -> bool:
    """Check a model because a person wants it: here and now, or (False) by a worker that has it loaded."""
    if model.engine == LanguageModel.Engine.TRANSFORMERS and not settings.EMBEDDED:
        check_model.apply_async((str(model.pk),), queue=model.queue, retry=False)
        return False
    health.check(model)
    audit.record("languagemodel.checked", target=model, changes={"status": model.status})
    return True


def accept_files(model: LanguageModel) -> None:
    model.forget_files()
    model.save(update_fields=["digests", "digests_pinned_at", "updated_at"])
    audit.record("languagemodel.files_accepted", target=model)
