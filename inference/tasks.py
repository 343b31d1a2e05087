"""What a worker does for the admin: a local model can only be asked where it is loaded."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from inference import health
from inference.models import LanguageModel


@shared_task(queue="inference", ignore_result=True, expires=60)
def check_model(model_id: UUID) -> None:
    """Ask a model something and store the outcome on its row. Ring it on the model's own queue."""
    health.check(LanguageModel.objects.get(pk=model_id))
