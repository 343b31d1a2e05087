"""The paged core gives the tokens of plain ``generate``, whatever runs beside, comes late, leaves, or gives way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import torch

from inference.engines.local.assembly import assemble
from inference.engines.local.core import PagedCore
from inference.engines.local.limits import EngineLimits
from inference.engines.local.sequence import Event, Sequence
from tests.inference.engines.local import tiny

TIGHT = EngineLimits(max_running=8, kv_cache_pages=21, prefill_tokens=48, max_context_tokens=320)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class Bench:
    """A core that is driven step by step, and the yardstick."""

    core: PagedCore
    plain: tiny.Plain
    events: list[Event] = field(default_factory=list)

    def add(self, name: str, prompt: list[int], max_new_tokens: int, **more: object) -> Sequence:
        sequence = Sequence(name, list(prompt), max_new_tokens, end_ids=self.plain.loaded.end_ids, **more)
        self.core.add(sequence)
        return sequence

    def step(self) -> None:
        self.events += self.core.step()

    def run(self) -> None:
        while self.core.has_work:
            self.step()

    def written(self, sequence: Sequence) -> list[int]:
        """What was told of it, as a reader would get it."""
        return [event.token for event in self.events if event.sequence is sequence and event.token is not None]


def bench(name: str, tokenizer, limits: EngineLimits = TIGHT, **changes: object) -> Bench:
    loaded = tiny.make(name, tokenizer, **changes)
    plain = tiny.Plain.copy_of(loaded)
    assembly = assemble(loaded, limits)
    assert (assembly.path, assembly.reason) == ("paged", "")
    core = assembly.build(lambda events: None)
    assert isinstance(core, PagedCore)
    return Bench(core, plain)


def prompts(count: int, seed: int, longest: int = 200) -> list[list[int]]:
    """Some begin alike, some are long."""
    rng = random.Random(seed)
    start = [rng.randrange(5, tiny.VOCABULARY) for _ in range(40)]
    made = []
    for _ in range(count):
        length = rng.choice([1, 2, 15, 16, 17, 33, rng.randrange(3, 60), rng.randrange(60, longest)])
        prompt = [rng.randrange(5, tiny.VOCABULARY) for _ in range(length)]
        made.append(start + prompt if rng.random() < 0.4 else prompt)
    return made


def mixed(bench: Bench, count: int, seed: int) -> tuple[dict[Sequence, bool], int]:
    """Requests that arrive at random, of which some are cancelled at random; tells which of them were."""
    rng = random.Random(seed)
    left: dict[Sequence, bool] = {}
    todo = [(prompt, rng.randrange(1, 40)) for prompt in prompts(count, seed)]
    while todo or bench.core.has_work:
        for _ in range(rng.choice([0, 0, 0, 1, 1, 4])):
            if todo:
                prompt, new = todo.pop()
                left[bench.add(f"r{len(todo)}", prompt, new)] = False
        alive = [sequence for sequence in left if not sequence.is_over]
        if alive and rng.random() < 0.05:
            chosen = rng.choice(alive)
            chosen.is_over = left[chosen] = True
        bench.step()
    return left, count


def check(bench: Bench, left: dict[Sequence, bool]) -> None:
    for sequence, is_cancelled in left.items():
        wanted = bench.plain.answer(sequence.tokens[: sequence.prompt_tokens], sequence.max_new_tokens)
        found = bench.written(sequence)
        assert found == (wanted[: len(found)] if is_cancelled else wanted), sequence.id
        finishes = [event.finish for event in bench.events if event.sequence is sequence and event.finish]
        end = "stop" if wanted[-1] in sequence.end_ids else "length"
        assert finishes == ([] if is_cancelled else [end])
    assert bench.core.pool.used == 0
    assert bench.core.running == bench.core.waiting == []


@pytest.mark.parametrize("look_ahead", [False, True])
@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_mixed_requests_get_the_tokens_of_generate(name, look_ahead, tokenizer):
    limits = EngineLimits(**{f: getattr(TIGHT, f) for f in TIGHT.__slots__} | {"look_ahead": look_ahead})
    running = bench(name, tokenizer, limits)

    left, count = mixed(running, 16, seed=3)

    assert len(left) == count
    check(running, left)
    assert running.core.scheduler.preemptions > 0, "the memory was not tight enough to prove anything"
    assert running.core.scheduler.prefix_hit_tokens > 0, "nothing was shared"
