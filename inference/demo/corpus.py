"""The training corpus of the demo model: questions with the intent that answers them.

Knows the phrase files and the fixed answers; it never reads ``heldout.jsonl``, only hashes of it (see ``heldout.py``).
The same seed gives the same corpus, question by question.
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Literal, cast

from inference.demo.heldout import known_hashes, normalise, question_hash
from inference.demo.phrases import Phrases, Wording

HERE = Path(__file__).parent
LANGUAGES = ("en", "zh")
SEED = 20240607
QUESTIONS_PER_INTENT = 2200
OUT_OF_SCOPE = "out_of_scope"
OUT_OF_SCOPE_SHARE = 0.28
SMALL_TALK = ("greeting", "thanks", "goodbye")  # "hi", "please" and "thank you" around these would change their meaning
DECORATED_SHARE = 0.3
TYPO_SHARE = 0.05
TRIES_PER_QUESTION = 12
LONGEST_PRACTISED_LINE = 200  # expansions; longer lines of first_words.txt are patterns, practised once as all others
SCRIPT_BORDER = re.compile(r"(?<=[\u3400-\u9fff])(?=[a-z0-9/])|(?<=[a-z0-9])(?=[\u3400-\u9fff])")
ENDINGS = {"en": ["?", "?", "", ".", "!", " ?", "...", "??"], "zh": ["？", "？", "", "。", "！", "?", "～"]}

Split = Literal["all", "training", "validation"]  # training leaves out the wordings that validation needs


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    language: str
    intent: str


@cache
def answers() -> dict[str, dict[str, str]]:
    """Intent -> language -> the one fixed answer."""
    return cast(dict[str, dict[str, str]], json.loads((HERE / "answers.json").read_text(encoding="utf-8")))


def load_phrases(language: str, intent: str) -> list[Phrases]:
    """One Phrases per file of the intent (``intent.txt``, ``intent.part.txt``), each with the shared slots."""
    folder = HERE / "phrases" / language
    shared = (folder / "shared.txt").read_text(encoding="utf-8").splitlines()
    files = sorted(folder.glob(f"{intent}.*txt"))
    return [Phrases([*shared, *file.read_text(encoding="utf-8").splitlines()]) for file in files]


def wordings(language: str, intent: str, rng: random.Random) -> Iterator[Wording]:
    """Endless questions; the files of an intent take turns."""
    is_decorable = intent not in SMALL_TALK
    for phrases in cycle(load_phrases(language, intent)):
        wording = phrases.draw(rng)
        if is_decorable and rng.random() < DECORATED_SHARE:
            wording = decorated(wording, language, phrases, rng)
        yield wording


def decorated(wording: Wording, language: str, phrases: Phrases, rng: random.Random) -> Wording:
    """With polite words before, behind or on both sides."""
    nothing = Wording("", is_held_back=False)
    place = rng.choice(["before", "behind", "both"])
    before = phrases.expand("{prefix}", rng) if place != "behind" else nothing
    behind = phrases.expand("{suffix}", rng) if place != "before" else nothing
    parts = [before, wording, behind]
    text = (" " if language == "en" else "").join(part.text for part in parts if part.text)
    return Wording(text, any(part.is_held_back for part in parts))


def typed(text: str, language: str, rng: random.Random) -> str:
    """The question as somebody types it: a typo, spaces around Latin words, upper case, an ending."""
    if language == "en" and rng.random() < TYPO_SHARE:
        text = with_typo(text, rng)
    if language == "zh" and rng.random() < 0.5:
        text = SCRIPT_BORDER.sub(" ", text)
    return rng.choice([text, text, text.capitalize(), text.capitalize(), text.upper()]) + rng.choice(ENDINGS[language])


def with_typo(text: str, rng: random.Random) -> str:
    """One letter dropped, doubled or swapped with the next."""
    if len(text) < 8:
        return text
    at = rng.randrange(1, len(text) - 1)
    here, following = text[at : at + 2]
    return text[:at] + rng.choice([following, here + here + following, following + here]) + text[at + 2 :]


def questions_of(language: str, intent: str, wanted: int, rng: random.Random, split: Split) -> list[Question]:
    """Up to ``wanted`` different questions; small intents run out of wordings earlier."""
    found: dict[str, Question] = {}
    for wording in islice(wordings(language, intent, rng), wanted * TRIES_PER_QUESTION):
        if split != "all" and wording.is_held_back != (split == "validation"):
            continue
        text = typed(wording.text, language, rng)
        found.setdefault(normalise(text), Question(text, language, intent))
        if len(found) == wanted:
            break
    return list(found.values())


@cache
def first_words(language: str) -> dict[str, list[list[Question]]]:
    """Intent -> what newcomers type first, a list for each line of ``first_words.txt``."""
    text = (HERE / "phrases" / language / "first_words.txt").read_text(encoding="utf-8")
    _, *sections = re.split(r"^\[(\w+)\]$", text, flags=re.MULTILINE)
    found: dict[str, list[list[Question]]] = {}
    for intent, lines in zip(sections[::2], sections[1::2], strict=True):
        phrases = Phrases(lines.splitlines())
        expanded = [phrases.expand_all(template) for template in phrases.templates]
        found[intent] = [[Question(wording, language, intent) for wording in line] for line in expanded]
    return found


def all_first_words() -> list[Question]:
    """Each of them once per line that holds it."""
    return [
        question
        for language in LANGUAGES
        for lines in first_words(language).values()
        for line in lines
        for question in line
    ]


def practised(corpus: list[Question]) -> list[Question]:
    """The questions of the corpus that come from a short line of ``first_words.txt``: training repeats them."""
    short = {
        normalise(question.text)
        for language in LANGUAGES
        for lines in first_words(language).values()
        for line in lines
        if len(line) <= LONGEST_PRACTISED_LINE
        for question in line
    }
    return [question for question in corpus if normalise(question.text) in short]


def drawn_questions(rng: random.Random, split: Split, per_intent: int) -> Iterator[Question]:
    """In scope first, so that those win where a text is drawn twice."""
    in_scope = [intent for intent in answers() if intent != OUT_OF_SCOPE]
    others = round(per_intent * len(in_scope) * OUT_OF_SCOPE_SHARE / (1 - OUT_OF_SCOPE_SHARE))
    for language in LANGUAGES:
        for intent in [*in_scope, OUT_OF_SCOPE]:
            yield from questions_of(language, intent, others if intent == OUT_OF_SCOPE else per_intent, rng, split)


def build_corpus(seed: int = SEED, split: Split = "all", per_intent: int = QUESTIONS_PER_INTENT) -> list[Question]:
    """All questions, shuffled. No normalised text occurs twice; first words win, then in-scope intents.

    First words are all in, and never used for validation. The last step drops every question whose hash is in the
    held-out hash list, so that the generator needs to know no held-out text.
    """
    rng = random.Random(seed)
    first = {normalise(question.text): question for question in reversed(all_first_words())}
    found = {} if split == "validation" else dict(first)
    for question in drawn_questions(rng, split, per_intent):
        key = normalise(question.text)
        if key not in first:
            found.setdefault(key, question)
    hidden = known_hashes()
    corpus = [question for question in found.values() if question_hash(question.text) not in hidden]
    rng.shuffle(corpus)
    return corpus
