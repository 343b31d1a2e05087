"""LanguageModel -> Engine. The one place that chooses; torch is imported only when a local model is built."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from clawdbot_site.security.outbound import guarded_client
from inference.base import Engine
from inference.engines.echo import EchoEngine
from inference.engines.openai import OpenAIEngine
from inference.errors import EngineDown
from inference.models import LanguageModel

DEMO_PATH = Path(__file__).parent / "demo" / "model"
TINY_BYTES = 64 * 1024 * 1024  # below it, threads cost more than they bring
WAITING_SHARE = 4  # as many more may wait for each answer under way
LOCAL = "inference.engines.local"


def build(model: LanguageModel) -> Engine:
    """Raises InferenceError with one clear sentence when the model cannot be built here."""
    if model.engine == LanguageModel.Engine.OPENAI:
        return OpenAIEngine(model.base_url, model.model, model.api_key, guarded_client())
    if model.engine == LanguageModel.Engine.TRANSFORMERS:
        return _local(model)
    return EchoEngine()


def _local(model: LanguageModel) -> Engine:
    try:
        # By name: a site that uses remote models only has no torch installed, and never imports it.
        loading, limits, engines = (import_module(f"{LOCAL}.{name}") for name in ("model", "limits", "engine"))
    except ModuleNotFoundError as error:
        raise EngineDown(
            f"Local models need {error.name}: install requirements/gpu.txt and torch (docs/models.md), "
            "or choose a model with the engine `openai`."
        ) from None
    engine: Engine = engines.LocalEngine(
        loading.load_model(model.path),
        limits.EngineLimits(
            max_running=model.max_concurrency,
            max_waiting=WAITING_SHARE * model.max_concurrency,
            max_context_tokens=model.max_context_tokens,
        ),
        torch_threads=1 if _size_bytes(Path(model.path)) < TINY_BYTES else None,
    )
    return engine


def _size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
