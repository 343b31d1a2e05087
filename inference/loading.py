"""LanguageModel -> Engine. The one place that chooses; torch is imported only when a local model is built."""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from uuid import UUID

import httpx
from django.db import DatabaseError
from django.utils import timezone

from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.outbound import guarded_client
from inference import model_folder
from inference.base import Engine
from inference.engines.echo import EchoEngine
from inference.engines.keys import ApiKey, KeyRing
from inference.engines.openai import OpenAIEngine
from inference.errors import EngineDown
from inference.models import LanguageModel, ModelKey
from monitoring import audit

logger = logging.getLogger(__name__)

DEMO_PATH = Path(__file__).parent / "demo" / "model"
TINY_BYTES = 64 * 1024 * 1024  # below it, threads cost more than they bring
LOCAL = "inference.engines.local"
NO_LIMIT = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # the workers' threads are the limit


def build(model: LanguageModel) -> Engine:
    """Raises InferenceError with one clear sentence when the model cannot be built here."""
    if model.engine == LanguageModel.Engine.OPENAI:
        return _remote(model)
    if model.engine == LanguageModel.Engine.TRANSFORMERS:
        return _local(model)
    return EchoEngine()


# -- services --


def _remote(model: LanguageModel) -> Engine:
    return OpenAIEngine(
        model.base_url,
        model.model,
        KeyRing(_keys(model), on_refused=_note_refusal),
        guarded_client(limits=NO_LIMIT),
        first_token_timeout_s=model.first_token_timeout_s,
        between_tokens_timeout_s=model.between_tokens_timeout_s,
    )


def _keys(model: LanguageModel) -> list[ApiKey]:
    """The model's own key and its further ones. Raises EngineDown where one cannot be decrypted."""
    try:
        own = [ApiKey(model.api_key)] if model.api_key else []
        return own + [ApiKey(row.key, id=str(row.pk)) for row in model.keys.filter(is_enabled=True)]
    except DecryptionError:
        raise EngineDown("an API key cannot be decrypted with this site's keys; enter it again") from None


def _note_refusal(key: ApiKey, why: str, rest_s: float) -> None:
    """On the key's row, for the admin. This process alone lets it rest; others find out by one refused call."""
    logger.warning("the service refused an API key", extra={"key_id": key.id, "rest_s": rest_s})
    if not key.id:
        return
    now = timezone.now()
    seen = {"refused_at": now, "rests_until": now + timedelta(seconds=rest_s), "refusal": why[:300]}
    try:
        ModelKey.objects.filter(pk=UUID(key.id)).update(**seen)
    except DatabaseError:
        logger.warning("a refusal could not be noted", exc_info=True)


# -- folders --


def _local(model: LanguageModel) -> Engine:
    folder = Path(model.path)
    model_folder.check(folder)
    if folder != DEMO_PATH:  # the bundled one is part of this program, and changes with it
        _verify_or_pin(model, folder)
    try:
        # By name: a site that uses remote models only has no torch installed, and never imports it.
        loading, engines = (import_module(f"{LOCAL}.{name}") for name in ("model", "engine"))
    except ModuleNotFoundError as error:
        raise EngineDown(
            f"Local models need {error.name}: install requirements/gpu.txt and torch (docs/models.md), "
            "or choose a model with the engine `openai`."
        ) from None
    engine: Engine = engines.LocalEngine(
        loading.load_model(model.path),
        max_context_tokens=model.max_context_tokens,
        max_waiting=model.max_concurrency,
        torch_threads=1 if _size_bytes(folder) < TINY_BYTES else None,
    )
    return engine


def _verify_or_pin(model: LanguageModel, folder: Path) -> None:
    """The files of the first load are those of every later one, on every machine. Raises UnsafeFolder."""
    if model.digests:
        return model_folder.verify(folder, model.digests)
    model.digests, model.digests_pinned_at = model_folder.digests(folder), timezone.now()
    untouched = LanguageModel.objects.filter(pk=model.pk, path=model.path, digests_pinned_at=None)
    if untouched.update(digests=model.digests, digests_pinned_at=model.digests_pinned_at):
        count = {"files": {"before": None, "after": len(model.digests)}}
        audit.record("languagemodel.files_pinned", target=model, changes=count)
        return None
    model.refresh_from_db(fields=["digests", "digests_pinned_at"])  # another worker was first: compare with its list
    return model_folder.verify(folder, model.digests)


def _size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
