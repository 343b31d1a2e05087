"""What only the local engine does: its waiting list, its one thread, true greedy tokens."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import torch

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.local.answer import AnswerWriter, TokenText
from inference.engines.local.engine import LocalEngine
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import load_model
from inference.errors import BadRequest, QueueFull

ids = (f"local-{n}" for n in itertools.count())


@pytest.fixture
def engine(loaded):
    engine = LocalEngine(loaded, EngineLimits(max_running=1, max_waiting=2), torch_threads=1)
    yield engine
    engine.close()


def ask(text: str = "How do I reset my password?", deadline_s: float | None = None, **sampling: object) -> GenRequest:
    chosen = SamplingParams(**{"max_new_tokens": 20, "temperature": 1.0, "seed": 7, **sampling})
    return GenRequest(next(ids), (ChatMessage("user", text),), chosen, deadline_s)


def endless() -> GenRequest:
    """For seconds: with this seed the model ends after 1,186 tokens, with most others after a hundred."""
    return ask("fox " * 50, max_new_tokens=1800, seed=5)


def test_greedy_tokens_are_those_of_generate(engine, model_folder):
    loaded = load_model(model_folder, device="cpu")
    rendered = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt"
    )
    wanted = loaded.model.generate(**rendered, max_new_tokens=12, do_sample=False)[0, rendered["input_ids"].shape[1] :]

    result = engine.submit(ask("hi", temperature=None, max_new_tokens=12)).result()

    assert result.text == loaded.tokenizer.decode(wanted, skip_special_tokens=True)
    assert result.usage.prompt_tokens == rendered["input_ids"].shape[1]
    assert result.usage.completion_tokens == len(wanted)


def test_a_seed_repeats_and_another_does_not(engine):
    texts = [engine.submit(ask(seed=seed)).result().text for seed in (1, 1, 2)]

    assert texts[0] == texts[1] != texts[2]


def test_a_seed_leaves_the_global_random_state_alone(engine):
    torch.manual_seed(1)
    before = torch.get_rng_state()

    engine.submit(ask(seed=9)).result()

    assert torch.equal(torch.get_rng_state(), before)


def test_end_tokens_end_the_answer(engine, loaded, monkeypatch):
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    bias = torch.zeros(loaded.model.config.vocab_size)
    bias[end] = 1e4
    hook = loaded.model.lm_head.register_forward_hook(lambda module, args, logits: logits + bias)
    try:
        result = engine.submit(ask()).result()
    finally:
        hook.remove()

    assert (result.text, result.finish, result.usage.completion_tokens) == ("", "stop", 1)


def test_an_answer_that_turns_in_circles_is_ended(engine, loaded):
    a = loaded.tokenizer.encode("a")[0]
    bias = torch.zeros(loaded.model.config.vocab_size)
    bias[a] = 1e4
    hook = loaded.model.lm_head.register_forward_hook(lambda module, args, logits: logits + bias)
    try:
        result = engine.submit(ask(max_new_tokens=500)).result()
    finally:
        hook.remove()

    assert (result.text, result.finish) == ("a" * 60, "repetition")


def test_the_waiting_list_is_bounded(engine):
    running = engine.submit(endless())
    next(iter(running))
    waiting = [engine.submit(ask()), engine.submit(ask())]

    with pytest.raises(QueueFull) as refused:
        engine.submit(ask())

    assert refused.value.retry_after_s > 0
    assert (engine.stats().running, engine.stats().waiting) == (1, 2)
    waiting[0].cancel()
    late = engine.submit(ask())
    running.cancel()
    assert [reply.result().finish for reply in (running, *waiting, late)] == [
        "cancelled",
        "cancelled",
        "length",
        "length",
    ]


def test_waiting_requests_end_at_their_deadline_and_on_cancel(engine):
    running = engine.submit(endless())
    next(iter(running))
    began_at = time.monotonic()
    late, left = engine.submit(ask(deadline_s=0.3)), engine.submit(ask())
    threading.Timer(0.1, left.cancel).start()

    assert (left.result().finish, late.result().finish) == ("cancelled", "deadline")
    assert time.monotonic() - began_at < 1
    assert running.ending() is None
    running.cancel()


def test_a_cancelled_answer_soon_frees_the_model(engine):
    running = engine.submit(endless())
    next(iter(running))
    running.cancel()
    began_at = time.monotonic()

    assert engine.submit(ask(max_new_tokens=2)).result().finish == "length"
    assert time.monotonic() - began_at < 1


def test_a_model_that_breaks_fails_one_request(engine, loaded):
    healthy = engine.submit(ask()).result().text
    failing = iter([True, True])  # the step, and then the one row of it

    def fail(*args: object) -> None:
        if next(failing, False):
            raise RuntimeError("CUDA out of memory")

    hook = loaded.model.register_forward_pre_hook(fail)
    first, second = engine.submit(ask()), engine.submit(ask())

    first.result()
    hook.remove()

    assert (first.result().finish, first.result().error) == (
        "error",
        "the model failed: RuntimeError: CUDA out of memory",
    )
    assert second.result().text == healthy


def test_closing_ends_everything(engine):
    replies = [engine.submit(endless())]
    next(iter(replies[0]))
    replies += [engine.submit(ask()), engine.submit(ask())]

    engine.close()

    assert [reply.result().finish for reply in replies] == ["shutdown"] * 3
    assert "local-engine" not in [thread.name for thread in threading.enumerate()]


def test_hundred_requests_from_eight_threads_each_end_once(loaded):
    engine = LocalEngine(loaded, EngineLimits(max_waiting=200), torch_threads=1)
    finals: list[list[str]] = []

    def work(worker: int) -> None:
        for n in range(12):
            reply = engine.submit(ask(f"{worker} {n}", max_new_tokens=4, deadline_s=30))
            if n % 4 == 3:
                reply.cancel()
            finals.append([delta.finish for delta in reply if delta.finish])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    engine.close()

    assert len(finals) == 96
    assert {tuple(final) for final in finals} <= {("length",), ("stop",), ("cancelled",)}


def test_pictures_are_refused(engine):
    with pytest.raises(BadRequest, match="pictures"):
        engine.submit(GenRequest(next(ids), (ChatMessage("user", "?", images=(b"\x89PNG",)),)))


# -- token by token ---------------------------------------------------------------------------------------------------

RARE = "数据👨‍👩‍👧‍👦库🇨🇳 é 𠮷 ﷺ mixed English 密码"


def test_no_half_character_leaves_the_decoder(tokenizer):
    ids = tokenizer.encode(RARE)
    assert len(ids) > len(RARE), "the text must need several tokens a character"
    text = TokenText(tokenizer.backend_tokenizer)

    pieces = [text.feed(id) for id in ids]

    assert "".join(pieces) == RARE
    assert not any("\ufffd" in piece for piece in pieces)


def test_any_tokens_in_any_order_are_decoded(tokenizer):
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        text = TokenText(tokenizer.backend_tokenizer)
        for id in torch.randint(len(tokenizer), (300,), generator=generator).tolist():
            text.feed(id)


def test_thinking_is_told_apart_by_tokens(tokenizer):
    answer = AnswerWriter(tokenizer.backend_tokenizer, frozenset({0}), stop=("fox",))

    deltas = [delta for id in tokenizer.encode("<think>a fox</think>\nthe quick fox") for delta in answer.feed(id)]

    assert "".join(delta.text for delta in deltas if delta.kind == "reasoning") == "a fox"
    assert "".join(delta.text for delta in deltas if delta.kind == "answer") == "the quick "
    assert answer.finish == "stop"
