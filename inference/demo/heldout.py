"""The held-out questions: how they are normalised, and their hashes.

The corpus generator must never see a held-out question, so it knows only ``heldout_hashes.txt``: the SHA-256 of each
normalised question. ``python -m inference.demo.heldout`` writes that list; it prints counts, never texts.
"""

import hashlib
import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
HELDOUT = HERE / "heldout.jsonl"
HASHES = HERE / "heldout_hashes.txt"


@dataclass(frozen=True, slots=True)
class HeldOutQuestion:
    text: str
    language: str
    intent: str


def load_heldout() -> list[HeldOutQuestion]:
    """For scoring only: nothing that makes or trains the model may call this."""
    with HELDOUT.open(encoding="utf-8") as lines:
        return [HeldOutQuestion(**json.loads(line)) for line in lines]


def normalise(text: str) -> str:
    """Lower-cased NFKC text without punctuation, symbols and spaces."""
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(char for char in text if unicodedata.category(char)[0] in "LMN")


def question_hash(text: str) -> str:
    return hashlib.sha256(normalise(text).encode()).hexdigest()


def known_hashes() -> frozenset[str]:
    return frozenset(HASHES.read_text(encoding="ascii").split())


if __name__ == "__main__":
    hashes = sorted({question_hash(question.text) for question in load_heldout()})
    HASHES.write_text("\n".join(hashes) + "\n", encoding="ascii")
    print(f"{len(hashes)} hashes written")
