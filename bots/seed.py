"""What a first start finds: the superuser, the models that the environment names, the demo bot."""

from __future__ import annotations

import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _

from bots.models import Bot
from inference.loading import DEMO_PATH
from inference.models import LanguageModel
from monitoring import audit

ADMIN, DEMO_MODEL = "admin", "demo"


def seed() -> None:
    """Idempotent; never changes what an admin changed, except the models that the environment itself describes."""
    ensure_admin()
    demo_model = _default_model()
    if demo_model and not Bot.objects.filter(slug="demo").exists():
        bot = Bot.objects.create(
            slug="demo",
            name=_("Demo"),
            model=demo_model,
            temperature=0.0 if demo_model.name == DEMO_MODEL else 0.7,  # a model this small must not be left to chance
            welcome_text=_("Hello! Ask me about ClawdBot."),
        )
        audit.record("bot.seeded", target=bot)
    elif demo_model and _is_remote_wanted():
        Bot.objects.filter(slug="demo", model__name__in=(DEMO_MODEL, "remote")).update(model=demo_model)


def ensure_admin() -> None:
    """The first superuser. The password is the environment's, or a generated one in the data folder (0600)."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return
    user = users.create_superuser(ADMIN, password=settings.ADMIN_PASSWORD or generated_password())
    audit.record("user.seeded", target=user)


def password_file() -> Path:
    return Path(settings.DATA_DIR) / "admin-password"


def generated_password() -> str:
    path = password_file()
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(15) + "\n", "utf-8")
    return path.read_text("utf-8").strip()


def _is_remote_wanted() -> bool:
    return bool(settings.MODEL_ENDPOINT)


def _default_model() -> LanguageModel | None:
    """The model of the demo bot: the service that the environment names, or its folder, or the bundled demo model."""
    if _is_remote_wanted():
        return _remote()
    if settings.MODEL_PATH:
        return _local("local", Path(settings.MODEL_PATH))
    return _local(DEMO_MODEL, DEMO_PATH, context=1024)


def _remote() -> LanguageModel:
    model, is_new = LanguageModel.objects.get_or_create(
        name="remote",
        defaults={
            "engine": LanguageModel.Engine.OPENAI,
            "base_url": settings.MODEL_ENDPOINT,
            "model": settings.MODEL_NAME,
            "api_key": settings.MODEL_API_KEY,
        },
    )
    wanted = (settings.MODEL_ENDPOINT, settings.MODEL_NAME or model.model, settings.MODEL_API_KEY or model.api_key)
    if not is_new and (model.base_url, model.model, model.api_key) != wanted:
        before = audit.snapshot(model)
        model.base_url, model.model, model.api_key = wanted
        model.save()
        audit.record("model.followed_environment", target=model, changes=audit.diff(before, audit.snapshot(model)))
    return model


def _local(name: str, path: Path, context: int = 8192) -> LanguageModel:
    model, _is_new = LanguageModel.objects.get_or_create(
        name=name,
        defaults={"engine": LanguageModel.Engine.TRANSFORMERS, "path": str(path), "max_context_tokens": context},
    )
    if model.path != str(path):
        model.path = str(path)
        model.forget_check()
        model.forget_files()
        model.save()
    return model
