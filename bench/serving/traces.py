"""What is asked, and when: the same for every contestant. Pure; from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_SHORTEST, _LONGEST = 4, 1024
_SYSTEM_TOKENS = 200
_SHARES_SYSTEM = 0.6
_FOLLOWS_UP = 0.4
_MOST_HISTORY = 2048  # a follow-up to a longer talk begins a new one


@dataclass(frozen=True, slots=True)
class Ask:
    """Exactly ``new_tokens`` are wanted. ``due_s`` counts from the start of an open loop."""

    prompt: tuple[int, ...]
    new_tokens: int
    due_s: float = 0.0


def chat(count: int, vocabulary: int, seed: int) -> list[Ask]:
    """Lengths as people's: log-normal, prompts around 100 tokens and answers around 130; some share a system prompt,
    some go on where another ended."""
    rng = _repeatable(seed)
    system = _tokens(rng, _SYSTEM_TOKENS, vocabulary)
    asks: list[Ask] = []
    for _ in range(count):
        asked = _tokens(rng, _log_normal(rng, 100, 1.25), vocabulary)
        new = _log_normal(rng, 130, 0.93)
        before = rng.choice(asks) if asks and rng.random() < _FOLLOWS_UP else None
        if before and len(before.prompt) + before.new_tokens < _MOST_HISTORY:
            said = _tokens(rng, before.new_tokens, vocabulary)  # as if the bot had said so
            prompt = before.prompt + said + asked
        else:
            prompt = system + asked if rng.random() < _SHARES_SYSTEM else asked
        asks.append(Ask(prompt, new))
    return asks


def bot(count: int, vocabulary: int, seed: int) -> list[Ask]:
    """What company bots see: 70 % short questions, 20 % talk, 10 % documents."""
    rng = _repeatable(seed)
    talk = iter(chat(count, vocabulary, seed))
    asks = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.7:
            asks.append(Ask(_tokens(rng, rng.randrange(30, 121), vocabulary), rng.randrange(10, 61)))
        elif kind < 0.9:
            asks.append(next(talk))
        else:
            asks.append(Ask(_tokens(rng, rng.randrange(2000, 6001), vocabulary), _log_normal(rng, 130, 0.93)))
    return asks


def uniform(count: int, prompt_tokens: int, new_tokens: int, vocabulary: int, seed: int) -> list[Ask]:
    """All alike, and nothing in common."""
    rng = _repeatable(seed)
    return [Ask(_tokens(rng, prompt_tokens, vocabulary), new_tokens) for _ in range(count)]


def arriving(asks: Sequence[Ask], per_s: float, variation: float, seed: int) -> list[Ask]:
    """As an open loop: gamma-distributed pauses; ``variation`` 1 is a Poisson process, 2 comes in bursts."""
    rng = _repeatable(seed)
    shape = 1 / variation**2
    return [replace(ask, due_s=due) for ask, due in zip(asks, _sums(rng, shape, per_s), strict=False)]


def _repeatable(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  (a trace must be the same each time; nothing secret comes of it)


def every(asks: Sequence[Ask], nth: int) -> list[Ask]:
    """A part that is like the whole: each ``nth`` by length of prompt and answer together; the order stays."""
    ranked = sorted(range(len(asks)), key=lambda at: len(asks[at].prompt) + asks[at].new_tokens)
    return [asks[at] for at in sorted(ranked[nth // 2 :: nth])]


def _sums(rng: random.Random, shape: float, per_s: float) -> Iterator[float]:
    at = 0.0
    while True:
        at += rng.gammavariate(shape, 1 / (shape * per_s))
        yield at


def _tokens(rng: random.Random, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(rng.randrange(10, vocabulary) for _ in range(count))


def _log_normal(rng: random.Random, median: float, sigma: float) -> int:
    return round(min(_LONGEST, max(_SHORTEST, rng.lognormvariate(math.log(median), sigma))))
