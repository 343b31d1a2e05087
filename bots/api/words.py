"""The field for what is said: kept as it was written, never blank, never endless."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

LONGEST_TEXT = 100_000


def check_words(value: str) -> None:
    if not value.strip():
        raise serializers.ValidationError(_("There is nothing in it to read."))


class WordsField(serializers.CharField):
    def __init__(self, **options: Any) -> None:
        fixed: dict[str, Any] = {"max_length": LONGEST_TEXT, "trim_whitespace": False, "validators": [check_words]}
        super().__init__(**options, **fixed)
