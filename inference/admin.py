"""The admin of language models: one form for all engines, and a button that asks the model."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import display

from clawdbot_site.security.secret_forms import AddressField, SecretsForm
from inference import health
from inference.models import LanguageModel
from inference.tasks import check_model
from monitoring import audit
from monitoring.admin import AuditedModelAdmin

Engine, Status = LanguageModel.Engine, LanguageModel.Status
COLOURS = {Status.OK: "success", Status.FAILING: "danger", Status.UNKNOWN: "info"}
WHERE = ("engine", "path", "base_url", "model", "api_key")  # a change of these makes the last check worthless


class LanguageModelForm(SecretsForm):
    moved_secrets = ("api_key",)
    base_url = AddressField(
        label=_("Base URL"),
        max_length=500,
        help_text=_("Of any OpenAI-compatible service (vLLM, SGLang, Ollama, a cloud). Usually ends in /v1."),
    )

    class Meta:
        model = LanguageModel
        fields = [
            "name",
            "engine",
            "base_url",
            "model",
            "api_key",
            "path",
            "vision",
            "max_context_tokens",
            "max_concurrency",
            "queue",
        ]
        help_texts = {
            "engine": _("What computes the answers. Echo repeats the question: good for trying the way to a platform."),
            "model": _("The name by which the service knows it, for example qwen3-32b."),
            "api_key": _("Encrypted before it is stored, and never shown again. Empty for services without keys."),
            "path": _("On the machine of the worker: a folder with config.json, tokenizer.json and *.safetensors."),
            "max_context_tokens": _("Prompt and answer together; older messages are left out when they do not fit."),
            "max_concurrency": _("More questions than this wait for their turn."),
            "queue": _(
                "Workers started with -Q and this name answer. Leave it unless you give a model its own machine."
            ),
            "vision": _("Pictures are sent along. Only for models that can read them."),
        }

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        needed: dict[str, tuple[str, Any]] = {
            Engine.OPENAI: ("base_url", _("Say where the service is, for example https://llm.example.com/v1.")),
            Engine.TRANSFORMERS: ("path", _("Say in which folder the model is.")),
        }
        name, text = needed.get(str(data.get("engine")), ("", ""))
        if name and not data.get(name) and name not in self.errors:
            self.add_error(name, ValidationError(text))
        return data


@admin.register(LanguageModel)
class LanguageModelAdmin(AuditedModelAdmin):
    form = LanguageModelForm
    list_display = ["name", "engine", "where", "state", "checked_at", "bot_count"]
    list_filter = ["status", "engine", "queue"]
    search_fields = ["name", "model", "base_url", "path"]
    actions = ["check_selected"]
    change_form_outer_before_template = "inference/check_panel.html"
    conditional_fields = {
        "base_url": "engine == 'openai'",
        "model": "engine == 'openai'",
        "api_key": "engine == 'openai'",
        "path": "engine == 'transformers'",
    }
    fieldsets = [
        (None, {"fields": ["name", "engine", "base_url", "model", "api_key", "path", "vision"]}),
        (_("How much at once"), {"fields": ["max_context_tokens", "max_concurrency", "queue"]}),
    ]

    # -- the list --

    def get_queryset(self, request: HttpRequest) -> QuerySet[LanguageModel]:
        return super().get_queryset(request).prefetch_related("bots")

    @admin.display(description=_("where"))
    def where(self, model: LanguageModel) -> str:
        places: dict[str, str] = {Engine.OPENAI: model.base_url, Engine.TRANSFORMERS: model.path}
        return places.get(model.engine, "") or "–"

    @display(description=_("status"), label=COLOURS, ordering="status")
    def state(self, model: LanguageModel) -> tuple[str, str]:
        return model.status, model.get_status_display()

    @admin.display(description=_("bots"))
    def bot_count(self, model: LanguageModel) -> int:
        return len(model.bots.all())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change and set(WHERE).intersection(form.changed_data):
            obj.status, obj.status_detail, obj.checked_at = Status.UNKNOWN, "", None
        super().save_model(request, obj, form, change)

    # -- asking the model --

    def get_urls(self) -> list[URLPattern]:
        check = self.admin_site.admin_view(require_POST(self.check_now))
        return [path("<uuid:pk>/check/", check, name="inference_languagemodel_check"), *super().get_urls()]

    def check_now(self, request: HttpRequest, pk: str) -> HttpResponse:
        model = self.get_object(request, str(pk))
        if model is None:
            raise Http404
        if not self.has_change_permission(request, model):
            raise PermissionDenied
        self._check(request, model)
        return HttpResponseRedirect(reverse("admin:inference_languagemodel_change", args=[pk]))

    @admin.action(description=_("Check now"), permissions=["change"])
    def check_selected(self, request: HttpRequest, models: QuerySet[LanguageModel]) -> None:
        for model in models:
            self._check(request, model)

    check_selected.runs_outside_transaction = True  # type: ignore[attr-defined]  # AuditedModelAdmin reads it

    def _check(self, request: HttpRequest, model: LanguageModel) -> None:
        if model.engine == Engine.TRANSFORMERS and not settings.EMBEDDED:
            check_model.apply_async((str(model.pk),), queue=model.queue, retry=False)
            text = _("A worker of the queue %(queue)s was asked to check %(model)s. Look again in some seconds.")
            messages.info(request, text % {"queue": model.queue, "model": model})
            return
        found = health.check(model)
        audit.record("languagemodel.checked", target=model, changes={"status": model.status})
        said = {"model": model, "detail": model.status_detail}
        if found.ok:
            messages.success(request, _("%(model)s answers. First token after %(detail)s") % said)
        else:
            messages.error(request, _("%(model)s does not answer. %(detail)s") % said)
