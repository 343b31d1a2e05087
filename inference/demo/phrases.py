"""The phrase files of the corpus: slots, groups, and how a template becomes one question.

A file holds comments (``# ...``), slots (``@name: a | b | c``) and templates. A template may hold ``{slot}`` and
``(a|b|)`` groups, also nested; every choice is drawn from the random generator that the caller passes.
"""

import hashlib
import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

GROUP = re.compile(r"\(([^()]*)\)|\{(\w+)\}")
SMALLEST_SPLIT_CHOICE = 8  # shorter lists are frames; losing one of their words would remove a whole kind of question


@dataclass(frozen=True, slots=True)
class Wording:
    """A drawn question; ``is_held_back`` where one of its choices belongs to validation."""

    text: str
    is_held_back: bool


def is_held_back(choice: str) -> bool:
    """One choice in twenty-five, by hash, so that the split stays the same when files grow."""
    return hashlib.sha256(choice.encode()).digest()[0] < 10


class Phrases:
    """Templates of one intent in one language."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.slots: dict[str, list[str]] = {}
        self.templates: list[str] = []
        for line in map(str.strip, lines):
            if line.startswith("@"):
                name, _, values = line[1:].partition(":")
                self.slots[name] = [value.strip() for value in values.split(" | ")]
            elif line and not line.startswith("#"):
                self.templates.append(line)
        self.weights = [1 + math.log2(self.variants(template)) ** 1.5 for template in self.templates]

    def draw(self, rng: random.Random) -> Wording:
        """One question; frames with many variants come more often, but far less than in proportion."""
        (template,) = rng.choices(self.templates, self.weights)
        return self.expand(template, rng)

    def expand(self, template: str, rng: random.Random) -> Wording:
        held_back = False
        while found := GROUP.search(template):
            choices = self._choices(found)
            chosen = rng.choice(choices)
            held_back |= len(choices) >= SMALLEST_SPLIT_CHOICE and is_held_back(chosen)
            template = template[: found.start()] + chosen + template[found.end() :]
        return Wording(" ".join(template.split()), held_back)

    def variants(self, template: str) -> float:
        """How many questions a template can become (nested slots and groups counted at their largest)."""
        total = 1.0
        while found := GROUP.search(template):
            choices = self._choices(found)
            total *= len(choices)
            template = template[: found.start()] + max(choices, key=len) + template[found.end() :]
        return total

    def expand_all(self, template: str) -> list[str]:
        """Every question a template can become; for the short lines of ``first_words.txt``."""
        if not (found := GROUP.search(template)):
            return [" ".join(template.split())]
        before, behind = template[: found.start()], template[found.end() :]
        texts = (text for choice in self._choices(found) for text in self.expand_all(before + choice + behind))
        return list(dict.fromkeys(texts))  # nested groups reach the same question on several ways

    def _choices(self, found: re.Match[str]) -> list[str]:
        return found[1].split("|") if found[1] is not None else self.slots[found[2]]
