"""The admin of word lists: what they hold, a box to try a text in, and a list as a plain text file, in and out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextareaWidget

from bots.models import Bot, WordList
from bots.models.words import LONGEST_LIST, check_rules
from bots.words import rules, trying
from clawdbot_site.security.team_admin import VisibleFilter
from clawdbot_site.security.teams import without_foreign
from monitoring import audit
from monitoring.admin import AuditedModelAdmin

COLOURS = {WordList.Action.BLOCK: "danger", WordList.Action.MASK: "warning", WordList.Action.WARN: "info"}
ENCODINGS = ("utf-8-sig", "gb18030")  # what editors and spreadsheets in China write


class WordListForm(forms.ModelForm):
    file = forms.FileField(
        label=_("from a text file"),
        required=False,
        widget=UnfoldAdminFileFieldWidget,
        help_text=_("Takes the place of the whole text above. UTF-8 or GB18030, at most 1 MB."),
    )

    class Meta:  # the admin names the model, and its fieldsets choose the fields
        widgets = {"text": UnfoldAdminTextareaWidget(attrs={"rows": 14})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "text" in self.fields:  # not for who only reads
            self.fields["text"].required = False

    def clean(self) -> dict[str, Any] | None:
        given = super().clean() or {}
        if file := given.get("file"):
            try:
                given["text"] = _text_of(file)
                check_rules(given["text"])
            except ValidationError as error:
                self.add_error("file", error)
        elif not given.get("text", "").strip() and "text" not in self.errors:
            self.add_error("text", _("Write at least one word, or choose a file."))
        return given


class TryForm(forms.Form):
    text = forms.CharField(
        label=_("Text"),
        max_length=trying.LONGEST_TEXT,
        strip=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6}),
    )


def _text_of(file: UploadedFile) -> str:
    if (file.size or 0) > LONGEST_LIST:
        raise ValidationError(_("The file has more than 1 MB. Split the list."))
    raw = file.read()
    for encoding in ENCODINGS:
        try:
            return raw.decode(encoding).replace("\r\n", "\n").replace("\0", "")
        except UnicodeDecodeError:
            continue
    raise ValidationError(_("This is no text file in UTF-8 or GB18030."))


@admin.register(WordList)
class WordListAdmin(AuditedModelAdmin):
    form = WordListForm
    list_display = ["name", "what_happens", "place", "used_by", "is_enabled", "updated_at"]
    list_filter = ["action", "place", "is_enabled", "is_for_all", ("bots", VisibleFilter)]
    search_fields = ["name", "text", "note"]
    search_help_text = _("Name, note, or a word of the list")
    filter_horizontal = ["bots"]
    actions_detail = ["try_text", "download"]
    fieldsets = [
        (None, {"fields": ["name", ("action", "place"), "is_enabled", "note"]}),
        (_("Words and patterns"), {"fields": ["text", "file", "whole_words"]}),
        (_("Used by"), {"fields": ["is_for_all", "bots"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WordList]:
        rows = super().get_queryset(request).prefetch_related("bots")
        return without_foreign(rows, request.user, "bots", Bot.objects.all())

    @display(description=_("what happens"), label=COLOURS, ordering="action")
    def what_happens(self, row: WordList) -> tuple[str, str]:
        return row.action, row.get_action_display()

    @admin.display(description=_("used by"))
    def used_by(self, row: WordList) -> Any:
        return _("all bots") if row.is_for_all else ", ".join(bot.name for bot in row.bots.all()) or "–"

    @action(description=_("Try a text"), url_path="try", icon="science", permissions=["view"])
    def try_text(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._row(request, object_id)
        form = TryForm(request.POST if request.method == "POST" else None)
        context = {
            **self.admin_site.each_context(request),
            "title": row.name,
            "list": row,
            "form": form,
            "opts": self.opts,
        }
        if form.is_valid():
            audit.record_read("wordlist.tried", target=row)
            try:
                context["outcome"] = trying.outcome(row, form.cleaned_data["text"])
            except rules.BadRule as error:
                form.add_error(None, str(error))
        return TemplateResponse(request, "bots/word_list_try.html", context)

    @action(description=_("Download as text"), url_path="download", icon="download", permissions=["view"])
    def download(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self._row(request, object_id)
        audit.record_read("wordlist.exported", target=row)
        return as_file(row)

    def _row(self, request: HttpRequest, object_id: str) -> WordList:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row


def as_file(row: WordList) -> HttpResponse:
    name = slugify(row.name) or "word-list"
    headers = {"Content-Disposition": f'attachment; filename="{name}.txt"', "X-Content-Type-Options": "nosniff"}
    return HttpResponse(row.text, content_type="text/plain; charset=utf-8", headers=headers)
