"""LanguageModel: which model answers, where it is, how much may be asked of it, what it costs; its further API keys,
and what the workers that run it say of themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.fields import EncryptedTextField
from clawdbot_site.security.models.dated import DatedSecrets
from monitoring.ids import uuid7

CHECK_EVERY_S = 60.0
STALE_CHECK_S = 3 * CHECK_EVERY_S  # an older outcome says nothing about now
STALE_WORKER_S = 20.0
CURRENCY = RegexValidator(r"^[A-Z]{3}$", _("Three capital letters, like CNY or USD."))


def price(title: Any) -> models.DecimalField[Decimal, Decimal]:
    nothing = Decimal(0)
    return models.DecimalField(
        title, max_digits=12, decimal_places=4, default=nothing, db_default=nothing, validators=[MinValueValidator(0)]
    )


class LanguageModel(DatedSecrets):
    """One model behind one engine. Bots name it; the worker of its queue builds it once a process."""

    DATED = ("api_key",)

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
    first_token_timeout_s = models.PositiveSmallIntegerField(
        _("wait for the first token, seconds"),
        default=60,
        db_default=60,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
    )
    between_tokens_timeout_s = models.PositiveSmallIntegerField(
        _("wait between tokens, seconds"),
        default=60,
        db_default=60,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
    )
    prompt_price = price(_("price of a million prompt tokens"))
    completion_price = price(_("price of a million answer tokens"))
    currency = models.CharField(_("currency"), max_length=3, default="CNY", db_default="CNY", validators=[CURRENCY])
    is_checked_often = models.BooleanField(_("check every minute"), default=True, db_default=True)
    digests = models.JSONField(
        _("files"), default=dict, db_default=models.Value({}, models.JSONField()), blank=True, editable=False
    )  # name -> sha256 hex, pinned
    digests_pinned_at = models.DateTimeField(null=True, editable=False)
    vision = models.BooleanField(_("sees images"), default=False)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.UNKNOWN, editable=False
    )
    status_detail = models.CharField(max_length=300, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    failed_checks = models.PositiveIntegerField(default=0, db_default=0, editable=False)  # in a row
    first_token_ms = models.PositiveIntegerField(null=True, editable=False)
    tokens_per_s = models.FloatField(null=True, editable=False)
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

    @property
    def is_check_fresh(self) -> bool:
        """Whether the last check still says something about now."""
        return self.checked_at is not None and timezone.now() - self.checked_at < timedelta(seconds=STALE_CHECK_S)

    def forget_check(self) -> None:
        """What was found is about another place; the caller saves."""
        self.status, self.status_detail, self.checked_at, self.failed_checks = self.Status.UNKNOWN, "", None, 0
        self.first_token_ms = self.tokens_per_s = None

    def forget_files(self) -> None:
        """The files at the path of now are the right ones: the next load pins them. The caller saves."""
        self.digests, self.digests_pinned_at = {}, None


class ModelKey(DatedSecrets):
    """A further API key of a service. Keys take turns; one that was refused rests for a while (engines/keys.py)."""

    DATED = ("key",)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(LanguageModel, models.CASCADE, related_name="keys", verbose_name=_("model"))
    name = models.CharField(_("name"), max_length=100, blank=True)
    key = EncryptedTextField(_("API key"))
    is_enabled = models.BooleanField(_("enabled"), default=True)
    refused_at = models.DateTimeField(_("last refused"), null=True, editable=False)
    rests_until = models.DateTimeField(_("rests until"), null=True, editable=False)
    refusal = models.CharField(_("refusal"), max_length=300, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name, verbose_name_plural = _("further API key"), _("further API keys")
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return self.name or str(_("further API key"))

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        self._tell_engines()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        deleted = super().delete(*args, **kwargs)
        self._tell_engines()
        return deleted

    @property
    def is_resting(self) -> bool:
        return self.rests_until is not None and self.rests_until > timezone.now()

    def _tell_engines(self) -> None:
        """Workers look at the model's row: it is newer now."""
        LanguageModel.objects.filter(pk=self.model_id).update(updated_at=timezone.now())


class WorkerStateQuerySet(models.QuerySet["WorkerState"]):
    def live(self) -> WorkerStateQuerySet:
        """Of processes that are still there, as far as anybody knows."""
        return self.filter(seen_at__gte=stale_before())


class WorkerState(models.Model):
    """What one process says about one model that it runs. Rewritten every few seconds; a process that is gone goes
    stale. For people to look at: nothing is decided by it."""

    class State(models.TextChoices):
        LOADING = "loading", _("loading")
        READY = "ready", _("ready")
        FAILED = "failed", _("could not be loaded")
        DRAINING = "draining", _("ending")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    worker = models.CharField(_("worker"), max_length=100)
    model = models.ForeignKey(LanguageModel, models.CASCADE, related_name="workers", verbose_name=_("model"))
    state = models.CharField(_("state"), max_length=10, choices=State.choices)
    detail = models.CharField(max_length=300, blank=True)
    stats = models.JSONField(default=dict)
    memory_bytes = models.PositiveBigIntegerField(_("memory"), default=0)
    gpu_memory_bytes = models.PositiveBigIntegerField(_("GPU memory"), default=0)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    objects = WorkerStateQuerySet.as_manager()

    class Meta:
        verbose_name, verbose_name_plural = _("worker"), _("workers")
        ordering = ["worker"]
        constraints = [models.UniqueConstraint(fields=["worker", "model"], name="one_state_per_worker_and_model")]

    def __str__(self) -> str:
        return f"{self.worker} · {self.model}"


def stale_before() -> datetime:
    return timezone.now() - timedelta(seconds=STALE_WORKER_S)
