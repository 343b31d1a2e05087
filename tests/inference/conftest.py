"""Models on a fake service, and a process without engines of the test before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from inference import worker
from inference.models import LanguageModel
from tests import factories
from tests.servers.model_service import ModelService


@pytest.fixture
def model_service(settings: Any) -> Iterator[ModelService]:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as service:
        yield service


@pytest.fixture
def remote_model(model_service: ModelService, db: None) -> Iterator[Callable[..., LanguageModel]]:
    """Makes a row for the fake service."""

    def make(**values: Any) -> LanguageModel:
        place = {"engine": "openai", "base_url": model_service.base_url, "api_key": model_service.api_key}
        return factories.model(**{**place, "model": "fake", **values})

    yield make
    worker.close_all()
