"""WordList: words and patterns that bots do not take, do not say, or say only masked."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from bots.models.bot import Bot
from bots.words import rules
from monitoring.ids import uuid7

LONGEST_LIST = 1_000_000  # characters


def check_rules(text: str) -> None:
    """Raises ValidationError with the number of the first bad line."""
    try:
        rules.check(text)
    except rules.BadRule as error:
        raise ValidationError(str(error), code="bad_rule") from None


class WordList(models.Model):
    """One list, for as many bots as use it. ``text`` holds a rule a line (bots/words/rules.py)."""

    class Action(models.TextChoices):
        BLOCK = "block", _("block: not answered, not said")
        MASK = "mask", _("mask: covered by ＊")
        WARN = "warn", _("warn: only noted in the audit log")

    class Place(models.TextChoices):
        BOTH = "both", _("questions and answers")
        INPUT = "input", _("questions")
        OUTPUT = "output", _("answers")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100, unique=True)
    action = models.CharField(_("what happens"), max_length=10, choices=Action.choices, default=Action.BLOCK)
    place = models.CharField(_("looked for in"), max_length=10, choices=Place.choices, default=Place.BOTH)
    text = models.TextField(
        _("words and patterns"),
        max_length=LONGEST_LIST,
        validators=[check_rules],
        help_text=_(
            "One a line. Case, width, accents and invisible signs make no difference. A line between slashes is a "
            "regular expression: /1[3-9]\\d{9}/. A line that begins with # is a comment."
        ),
    )
    whole_words = models.BooleanField(
        _("whole words only"),
        default=False,
        help_text=_("“cat” is not found in “concatenate”. Chinese has no such borders and is always found."),
    )
    is_for_all = models.BooleanField(_("for all bots"), default=False)
    bots = models.ManyToManyField(
        Bot, verbose_name=_("bots"), related_name="word_lists", blank=True, help_text=_("Who uses this list.")
    )
    is_enabled = models.BooleanField(_("enabled"), default=True)
    note = models.CharField(_("note"), max_length=200, blank=True, help_text=_("For admins: where it comes from."))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name, verbose_name_plural = _("word list"), _("word lists")
        ordering = ["name"]
        indexes = [models.Index(fields=["-created_at", "-id"], name="word_list_newest")]

    def __str__(self) -> str:
        return self.name
