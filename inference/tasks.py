"""What workers do for the admin and by the clock. A local model can only be asked where it is loaded."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from celery import shared_task

from inference import health
from inference.errors import ShuttingDown
from inference.models import CHECK_EVERY_S, LanguageModel


@shared_task(queue="inference", ignore_result=True, expires=60)
def check_model(model_id: str) -> None:
    """Ask a model something and store the outcome on its row. Ring it on the model's own queue."""
    model = LanguageModel.objects.filter(pk=UUID(str(model_id))).first()
    with suppress(ShuttingDown):  # the next minute's look finds another worker
        if model is not None:
            health.check(model)


@shared_task(queue="default", ignore_result=True, expires=CHECK_EVERY_S)
def check_models() -> None:
    """The look of every minute at the models that bots use."""
    health.check_used(_ring)


def _ring(model: LanguageModel) -> None:
    check_model.apply_async((str(model.pk),), queue=model.queue, retry=False)
