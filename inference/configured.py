"""What a configuration file can say of models and their further API keys."""

from __future__ import annotations

from inference.admin import ModelKeyForm
from inference.models import LanguageModel, ModelKey
from monitoring.configuration.kinds import Kind, register

register(
    Kind(
        "models",
        LanguageModel,
        key=("name",),
        fields=(
            "engine",
            "path",
            "base_url",
            "model",
            "api_key",
            "max_context_tokens",
            "max_concurrency",
            "queue",
            "vision",
            "first_token_timeout_s",
            "between_tokens_timeout_s",
            "is_checked_often",
            "prompt_price",
            "completion_price",
            "currency",
        ),
        secrets=("api_key",),
    ),
    Kind(
        "model_keys",
        ModelKey,
        key=("model", "name"),
        fields=("key", "is_enabled"),
        refers={"model": "models"},
        secrets=("key",),
        form=ModelKeyForm,
    ),
)
