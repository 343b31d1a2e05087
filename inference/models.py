"""LanguageModel: which model answers, where it is, and how much may be asked of it."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.fields import EncryptedTextField
from monitoring.ids import uuid7


class LanguageModel(models.Model):
    """One model behind one engine. Bots name it; the worker of its queue builds it once a process."""

    class Engine(models.TextChoices):
        TRANSFORMERS = "transformers", _("Local folder (torch and transformers)")
        OPENAI = "openai", _("OpenAI-compatible service")
        ECHO = "echo", _("Echo (for trying things out)")

    class Status(models.TextChoices):
        UNKNOWN = "unknown", _("not checked yet")
        OK = "ok", _("answers")
        FAILING = "failing", _("does not answer")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(_("name"), unique=True, help_text=_("Bots and the API refer to the model by this."))
    engine = models.CharField(_("engine"), max_length=20, choices=Engine.choices)
    path = models.CharField(
        _("folder"), max_length=500, blank=True, help_text=_("Local models: a folder with safetensors.")
    )
    base_url = models.URLField(_("base URL"), max_length=500, blank=True, help_text=_("Services: usually ends in /v1."))
    model = models.CharField(_("model at the service"), max_length=200, blank=True)
    api_key = EncryptedTextField(_("API key"), blank=True)
    max_context_tokens = models.PositiveIntegerField(
        _("context, tokens"), default=8192, validators=[MinValueValidator(128)]
    )
    max_concurrency = models.PositiveSmallIntegerField(
        _("answers at once"), default=16, validators=[MinValueValidator(1), MaxValueValidator(1024)]
    )
    queue = models.CharField(
        _("worker queue"),
        max_length=50,
        default="inference",
        validators=[RegexValidator(r"^[a-z0-9_-]+$", _("Use lower-case letters, digits, - and _."))],
    )
    vision = models.BooleanField(_("sees images"), default=False)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.UNKNOWN, editable=False
    )
    status_detail = models.CharField(max_length=300, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name, verbose_name_plural = _("language model"), _("language models")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(engine="openai") | ~models.Q(base_url=""), name="openai_model_has_base_url"
            ),
            models.CheckConstraint(
                condition=~models.Q(engine="transformers") | ~models.Q(path=""), name="local_model_has_path"
            ),
        ]

    def __str__(self) -> str:
        return self.name
