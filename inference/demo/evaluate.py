"""Score the demo model on the held-out questions: ``python -m inference.demo.evaluate``.

An answer counts as right when it equals, word for word, the fixed answer of the question's intent and language.
Prints numbers only, never a held-out text.
"""

import argparse
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from inference.demo.corpus import OUT_OF_SCOPE, answers
from inference.demo.heldout import HeldOutQuestion, load_heldout

MODEL = Path(__file__).parent / "model"
BATCH_SIZE = 50
MAX_NEW_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Demo:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of one group of questions."""

    right: int
    total: int

    @property
    def share(self) -> float:
        return self.right / self.total

    def __str__(self) -> str:
        return f"{self.right}/{self.total} ({100 * self.share:.1f} %)"


def load_demo(folder: Path = MODEL) -> Demo:
    """Loaded as any local Hugging Face folder; float32, which is the fastest on one CPU core."""
    # From a folder: nothing is fetched, so there is no revision to pin.
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()  # nosec B615
    return Demo(model, AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left"))  # nosec B615


def answer_all(demo: Demo, texts: list[str]) -> list[str]:
    """Greedy answers, batched; much faster than one by one, the words are the same."""
    found: list[str] = []
    for start in range(0, len(texts), BATCH_SIZE):
        chats = [[{"role": "user", "content": text}] for text in texts[start : start + BATCH_SIZE]]
        inputs = demo.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )
        with torch.inference_mode():
            output = demo.model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS)
        generated = output[:, inputs["input_ids"].shape[1] :]
        found += demo.tokenizer.batch_decode(generated, skip_special_tokens=True)
    return [text.strip() for text in found]


def language_of(answer: str) -> str:
    return "zh" if re.search(r"[\u3400-\u9fff]", answer) else "en"


def is_right(question: HeldOutQuestion, answer: str) -> bool:
    return answer == answers()[question.intent][question.language]


def score(questions: list[HeldOutQuestion], found: list[str]) -> dict[str, Score]:
    """Keys: ``in_scope``, ``out_of_scope``, ``language``, and one per intent."""
    pairs = list(zip(questions, found, strict=True))
    total, right = Counter[str](), Counter[str]()
    for question, answer in pairs:
        scope = "out_of_scope" if question.intent == OUT_OF_SCOPE else "in_scope"
        for key in {scope, question.intent, f"{scope}.{question.language}"}:
            total[key] += 1
            right[key] += is_right(question, answer)
    scores = {key: Score(right[key], total[key]) for key in sorted(total)}
    same = sum(language_of(answer) == question.language for question, answer in pairs)
    return {**scores, "language": Score(same, len(pairs))}


def time_answers(
    demo: Demo, texts: list[str], clock: Callable[[], float] = time.perf_counter
) -> tuple[list[float], list[float]]:
    """(milliseconds to the first token, milliseconds to the whole answer), one question at a time.

    ``time.process_time`` as the clock gives what an idle core would need, also on a busy machine (one thread only).
    """
    first_ms: list[float] = []
    whole_ms: list[float] = []
    for text in texts:
        chat = [{"role": "user", "content": text}]
        for max_new_tokens, times_ms in ((1, first_ms), (MAX_NEW_TOKENS, whole_ms)):
            started_s = clock()
            inputs = demo.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                demo.model.generate(**inputs, max_new_tokens=max_new_tokens)
            times_ms.append(1000 * (clock() - started_s))
    return first_ms, whole_ms


def timing(name: str, times_ms: list[float]) -> str:
    last = statistics.quantiles(times_ms, n=100, method="inclusive")[98]
    return f"{name}: median {statistics.median(times_ms):.0f} ms, p99 {last:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--timed", type=int, default=60, help="how many questions are timed one by one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    demo = load_demo(options.model)
    questions = load_heldout()
    for key, value in score(questions, answer_all(demo, [question.text for question in questions])).items():
        print(f"{key}: {value}")
    step = max(1, len(questions) // options.timed)
    timed = [question.text for question in questions[::step]]
    for name, clock in (("wall clock", time.perf_counter), ("processor time", time.process_time)):
        first_ms, whole_ms = time_answers(demo, timed, clock)
        print(timing(f"{name}, first token", first_ms))
        print(timing(f"{name}, whole answer", whole_ms))


if __name__ == "__main__":
    main()
