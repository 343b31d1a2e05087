"""The admin of language models: one form for all engines, further keys, a button that asks the model, live workers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST
from unfold.admin import TabularInline
from unfold.decorators import display

from clawdbot_site.security.secret_forms import AddressField, SecretsForm
from inference.asking import accept_files, ask
from inference.models import LanguageModel, ModelKey, WorkerState
from monitoring.admin import AuditedModelAdmin

Engine, Status = LanguageModel.Engine, LanguageModel.Status
COLOURS = {Status.OK: "success", Status.FAILING: "danger", Status.UNKNOWN: "info"}
WHERE = ("engine", "path", "base_url", "model", "api_key")  # a change of these makes the last check worthless
SERVICE_FIELDS = ("base_url", "model", "api_key", "rotate_by", "first_token_timeout_s", "between_tokens_timeout_s")


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
            "first_token_timeout_s",
            "between_tokens_timeout_s",
            "is_checked_often",
            "prompt_price",
            "completion_price",
            "currency",
            "rotate_by",
        ]
        help_texts = {
            "engine": _("What computes the answers. Echo repeats the question: good for trying the way to a platform."),
            "model": _("The name by which the service knows it, for example qwen3-32b."),
            "api_key": _("Encrypted before it is stored, and never shown again. Empty for services without keys."),
            "rotate_by": _("By then the API key should be replaced, and you are reminded. A new one counts 90 days."),
            "path": _("On the machine of the worker: a folder with config.json, tokenizer.json and *.safetensors."),
            "max_context_tokens": _("Prompt and answer together; older messages are left out when they do not fit."),
            "max_concurrency": _("More questions than this wait for their turn."),
            "queue": _(
                "Workers started with -Q and this name answer. Leave it unless you give a model its own machine."
            ),
            "vision": _("Pictures are sent along. Only for models that can read them."),
            "is_checked_often": _("A short question, about 40 tokens, while an enabled bot uses the model."),
            "prompt_price": _("As in the service's price list. 0: free, or not known."),
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
        self._keep_keys_at_home(data)
        return data

    def _keep_keys_at_home(self, data: dict[str, Any]) -> None:
        """Further keys must not go to another host unseen, as little as the first one."""
        is_moved = "base_url" in data and not self.instance._state.adding and self._leads_elsewhere(data["base_url"])
        if is_moved and self.instance.keys.exists():
            text = _("Delete the further API keys first: the address now leads to another host.")
            self.add_error("base_url", ValidationError(text))


class ModelKeyForm(SecretsForm):
    class Meta:
        model = ModelKey
        fields = ["name", "key", "is_enabled", "rotate_by"]


class ModelKeyInline(TabularInline):
    """Keys that take turns with the model's own."""

    model = ModelKey
    form = ModelKeyForm
    fields = ["name", "key", "is_enabled", "rotate_by", "fingerprint", "state"]
    readonly_fields = ["fingerprint", "state"]
    extra = 0

    @admin.display(description=_("fingerprint"))
    def fingerprint(self, row: ModelKey) -> SafeString | str:
        if row._state.adding:
            return "–"
        return format_html('<code class="cb-code">{}</code>', ModelKey._meta.get_field("key").value_from_object(row))

    @admin.display(description=_("state"))
    def state(self, row: ModelKey) -> str:
        if row.refused_at is None:
            return str(_("never refused")) if row.created_at else "–"
        words = _("rests, refused at %(at)s: %(why)s") if row.is_resting else _("last refused at %(at)s: %(why)s")
        return str(words) % {"at": f"{row.refused_at:%Y-%m-%d %H:%M}", "why": row.refusal}


@admin.register(LanguageModel)
class LanguageModelAdmin(AuditedModelAdmin):
    form = LanguageModelForm
    list_display = ["name", "engine", "where", "state", "speed", "checked_at", "load", "bot_count"]
    list_filter = ["status", "engine", "queue"]
    search_fields = ["name", "model", "base_url", "path"]
    inlines = [ModelKeyInline]
    actions = ["check_selected"]
    change_form_outer_before_template = "inference/check_panel.html"
    conditional_fields = {
        **dict.fromkeys(SERVICE_FIELDS, "engine == 'openai'"),
        "path": "engine == 'transformers'",
    }
    fieldsets = [
        (None, {"fields": ["name", "engine", "base_url", "model", "api_key", "rotate_by", "path", "vision"]}),
        (_("How much at once"), {"fields": ["max_context_tokens", "max_concurrency", "queue"]}),
        (
            _("Patience and checks"),
            {"fields": [("first_token_timeout_s", "between_tokens_timeout_s"), "is_checked_often"]},
        ),
        (_("Price"), {"fields": ["prompt_price", "completion_price", "currency"]}),
    ]

    # -- the list --

    def get_queryset(self, request: HttpRequest) -> QuerySet[LanguageModel]:
        live = Prefetch("workers", WorkerState.objects.live(), to_attr="live_workers")
        return super().get_queryset(request).prefetch_related("bots", live)

    @admin.display(description=_("where"))
    def where(self, model: LanguageModel) -> str:
        places: dict[str, str] = {Engine.OPENAI: model.base_url, Engine.TRANSFORMERS: model.path}
        return places.get(model.engine, "") or "–"

    @display(description=_("status"), label=COLOURS, ordering="status")
    def state(self, model: LanguageModel) -> tuple[str, str]:
        return model.status, model.get_status_display()

    @admin.display(description=_("speed"))
    def speed(self, model: LanguageModel) -> str:
        """What the last check measured."""
        parts = [f"{model.first_token_ms} ms"] if model.first_token_ms is not None else []
        return ", ".join([*parts, f"{model.tokens_per_s:.0f} tokens/s"] if model.tokens_per_s else parts) or "–"

    @admin.display(description=_("workers"))
    def load(self, model: Any) -> str:
        """How many processes run it, and what they have to do."""
        if not model.live_workers:
            return "–"
        count = len(model.live_workers)
        busy = {
            name: sum(int(one.stats.get(name) or 0) for one in model.live_workers) for name in ("running", "waiting")
        }
        words = ngettext("%(count)d worker, %(running)d at work", "%(count)d workers, %(running)d at work", count)
        waits = str(_(", %(waiting)d waiting")) if busy["waiting"] else ""
        return (words + waits) % {"count": count, **busy}

    @admin.display(description=_("bots"))
    def bot_count(self, model: LanguageModel) -> int:
        return len(model.bots.all())

    # -- one model --

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        rows = WorkerState.objects.live().filter(model_id=UUID(object_id)) if _is_uuid(object_id) else []
        extra_context = {**(extra_context or {}), "workers": [_worker_row(row) for row in rows]}
        return super().change_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change and set(WHERE).intersection(form.changed_data):
            obj.forget_check()
        if change and {"engine", "path"}.intersection(form.changed_data):
            obj.forget_files()
        super().save_model(request, obj, form, change)

    # -- asking the model --

    def get_urls(self) -> list[URLPattern]:
        views = {"check": self.check_now, "accept": self.accept_files}
        own: list[URLPattern] = [
            path(
                f"<uuid:pk>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"inference_languagemodel_{name}",
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def check_now(self, request: HttpRequest, pk: str) -> HttpResponse:
        model = self._changeable(request, pk)
        self._check(request, model)
        return HttpResponseRedirect(reverse("admin:inference_languagemodel_change", args=[pk]))

    def accept_files(self, request: HttpRequest, pk: str) -> HttpResponse:
        """The folder was changed on purpose: the next load pins what is there then."""
        model = self._changeable(request, pk)
        accept_files(model)
        messages.success(request, _("The files of now are accepted at the next load."))
        self._check(request, model)
        return HttpResponseRedirect(reverse("admin:inference_languagemodel_change", args=[pk]))

    @admin.action(description=_("Check now"), permissions=["change"])
    def check_selected(self, request: HttpRequest, models: QuerySet[LanguageModel]) -> None:
        for model in models:
            self._check(request, model)

    check_selected.runs_outside_transaction = True  # type: ignore[attr-defined]  # AuditedModelAdmin reads it

    def _changeable(self, request: HttpRequest, pk: str) -> LanguageModel:
        model = self.get_object(request, str(pk))
        if model is None:
            raise Http404
        if not self.has_change_permission(request, model):
            raise PermissionDenied
        return model

    def _check(self, request: HttpRequest, model: LanguageModel) -> None:
        if not ask(model):
            text = _("A worker of the queue %(queue)s was asked to check %(model)s. Look again in some seconds.")
            messages.info(request, text % {"queue": model.queue, "model": model})
            return
        said = {"model": model, "detail": model.status_detail}
        if model.status == Status.OK:
            messages.success(request, _("%(model)s answers. First token after %(detail)s") % said)
        else:
            messages.error(request, _("%(model)s does not answer. %(detail)s") % said)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _worker_row(row: WorkerState) -> dict[str, Any]:
    """A line of the panel's table. An engine tells more or less of itself."""
    stats = row.stats
    used, total = stats.get("kv_used_tokens"), stats.get("kv_total_tokens")
    return {
        "worker": row.worker,
        "state": row.state,
        "state_text": row.get_state_display(),
        "detail": row.detail,
        "running": stats.get("running", "–"),
        "waiting": stats.get("waiting", "–"),
        "oldest_wait_s": stats.get("oldest_wait_s"),
        "tokens_per_s": stats.get("tokens_per_s"),
        "path": ": ".join(filter(None, [stats.get("path"), stats.get("path_reason")])),
        "cache_percent": round(100 * used / total) if used is not None and total else None,
        "memory": filesizeformat(row.memory_bytes),
        "gpu_memory": filesizeformat(row.gpu_memory_bytes) if row.gpu_memory_bytes else "–",
        "restarts": stats.get("restarts") or 0,
        "seen_at": row.seen_at,
    }
