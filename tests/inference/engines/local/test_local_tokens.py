"""The paged core gives the tokens of plain ``generate``, whatever runs beside, comes late, leaves, or gives way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
import torch
from transformers import GptOssConfig, GptOssForCausalLM

from inference.engines.local.adapter import Adapter
from inference.engines.local.assembly import assemble
from inference.engines.local.attention import UnknownAttention
from inference.engines.local.attention_cpu import CpuStep
from inference.engines.local.attention_native import NativeStep
from inference.engines.local.backend import backend_for
from inference.engines.local.core import PagedCore
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import ready
from inference.engines.local.sequence import Event, Sequence
from tests import logged
from tests.inference.engines.local import tiny

TIGHT = EngineLimits(max_running=8, kv_cache_pages=21, prefill_tokens=48, max_context_tokens=320)


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


@pytest.mark.parametrize(
    ("name", "look_ahead"), [*((name, False) for name in tiny.ARCHITECTURES), ("qwen3", True), ("gemma3", True)]
)
def test_mixed_requests_get_the_tokens_of_generate(name, look_ahead, tokenizer):
    running = bench(name, tokenizer, replace(TIGHT, look_ahead=look_ahead))

    left, count = mixed(running, 16, seed=3)

    assert len(left) == count
    check(running, left)
    assert running.core.scheduler.preemptions > 0, "the memory was not tight enough to prove anything"
    assert running.core.scheduler.prefix_hit_tokens > 0, "nothing was shared"


@pytest.mark.long
@pytest.mark.parametrize("name", ["qwen3", "llama", "mistral", "gemma3"])
def test_five_hundred_mixed_requests_get_the_tokens_of_generate(name, tokenizer):
    running = bench(name, tokenizer)

    left, count = mixed(running, 500, seed=5)

    assert len(left) == count
    check(running, left)
    assert running.core.scheduler.preemptions > 20


def test_prompts_longer_than_a_step_and_than_the_window(tokenizer):
    running = bench("gemma3", tokenizer, EngineLimits(prefill_tokens=7, max_context_tokens=320))
    left = {running.add(f"{n}", prompt, 8): False for n, prompt in enumerate(prompts(4, seed=9))}

    running.run()

    check(running, left)


def test_a_model_that_we_do_not_understand_is_left_to_generate(tokenizer):
    torch.manual_seed(1)
    config = GptOssConfig(**{**tiny.SHAPE, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 16})
    loaded = ready(GptOssForCausalLM(config).float(), tokenizer)
    attention = loaded.model.config._attn_implementation

    assembly = assemble(loaded, TIGHT)

    assert (assembly.path, assembly.reason) == ("generate", "its attention has s_aux")
    assert loaded.model.config._attn_implementation == attention


def test_a_model_that_fails_the_self_test_is_left_to_generate(tokenizer, monkeypatch):
    def wrong(self: object, layer: int, query: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        return query.transpose(0, 1)

    for step in (CpuStep, NativeStep):
        monkeypatch.setattr(step, "attend", wrong)

    assembly = assemble(tiny.make("llama", tokenizer), TIGHT)

    assert assembly.path == "generate"
    assert assembly.reason.startswith("the self-test gave [")


def test_chunked_attention_is_not_taken_for_a_window(tokenizer):
    loaded = tiny.make("qwen3", tokenizer)
    loaded.model.config.layer_types = ["chunked_attention", "full_attention"]

    with pytest.raises(UnknownAttention, match="layers of chunked_attention"):
        Adapter(loaded.model)


def test_positions_are_not_stretched_for_some_because_others_are_long(tokenizer):
    stretched = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "long_factor": [4.0] * 8,
        "short_factor": [1.0] * 8,
        "original_max_position_embeddings": 256,
    }
    loaded = tiny.make("phi3", tokenizer, rope_parameters=stretched, original_max_position_embeddings=256)

    assert assemble(loaded, EngineLimits()).context_tokens == 256


# -- one bad row ------------------------------------------------------------------------------------------------------


def spoil(running: Bench, token: int, value: float) -> None:
    """From now on the model has no numbers for a token."""
    embeddings = running.core.runner.adapter._model.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight[token] = value


@pytest.mark.parametrize("look_ahead", [False, True])
def test_a_row_without_numbers_fails_alone_and_leaves_clean_pages(look_ahead, tokenizer):
    limits = replace(TIGHT, look_ahead=look_ahead)
    running = bench("llama", tokenizer, limits, tie_word_embeddings=False)
    clean = [[5 if token == 399 else token for token in prompt] for prompt in prompts(4, seed=4)]
    healthy = {running.add(f"{n}", prompt, 12): False for n, prompt in enumerate(clean)}
    spoil(running, 399, torch.nan)
    bad = running.add("bad", [7] * 20 + [399] + [7] * 20, 12)

    running.run()
    later = {running.add(f"later {n}", prompt, 12): False for n, prompt in enumerate(clean)}
    running.run()

    assert [e.error for e in running.events if e.sequence is bad] == ["the model gave no numbers"]
    check(running, {**healthy, **later})


def test_a_step_without_memory_is_tried_in_parts(tokenizer):
    running = bench("llama", tokenizer)
    left = {running.add(f"{n}", prompt, 6): False for n, prompt in enumerate(prompts(6, seed=6))}

    def fail(module: torch.nn.Module, args: tuple, options: dict) -> None:
        if options["input_ids"].shape[1] > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = running.core.runner.adapter._model.register_forward_pre_hook(fail, with_kwargs=True)
    running.run()
    hook.remove()

    failed = {e.sequence for e in running.events if e.finish == "error"}
    assert {s.prompt_tokens > 40 for s in failed} <= {True}
    assert 0 < len(failed) < 6
    check(running, {s: cancelled for s, cancelled in left.items() if s not in failed})


def test_a_context_that_memory_cannot_hold_is_cut_and_said(tokenizer, caplog):
    loaded = tiny.make("llama", tokenizer)
    copies = 2 if backend_for(loaded.device, loaded.model.dtype).mirrors else 1
    token_bytes = 2 * 2 * 2 * 16 * 4 * copies  # layers, keys and values, heads, size, float32

    assembly = assemble(loaded, EngineLimits(kv_cache_bytes=20 * 16 * token_bytes + 100))

    assert assembly.context_tokens == 320
    assert [record.context_tokens for record in logged.by(caplog, "inference")] == [320]


def test_a_cache_is_no_larger_than_all_answers_can_fill(tokenizer):
    core = assemble(tiny.make("llama", tokenizer), EngineLimits(max_running=2, max_context_tokens=100)).build(print)

    assert core.pool.count == 3 * 7
