"""Pictures: read, placed, seen; and batched with what sees nothing."""

from __future__ import annotations

import functools
import io
import itertools
import random
from dataclasses import replace

import pytest
import torch
from PIL import Image

from inference.base import ChatMessage, GenRequest, SamplingParams
from inference.engines.local import vision as vision_module
from inference.engines.local.assembly import assemble
from inference.engines.local.engine import LocalEngine
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import load_model
from inference.engines.local.prompt import PromptBuilder
from inference.engines.local.sequence import Sequence
from inference.engines.local.vision import decoded, vision_of
from inference.errors import BadRequest
from tests.inference.engines.local import seeing

ids = (f"seeing-{n}" for n in itertools.count())
RED, BLUE, WIDE = seeing.picture("red"), seeing.picture("blue"), seeing.picture("green", (240, 40))


@pytest.fixture(scope="module", params=["qwen3-vl", "qwen2.5-vl"])
def folder(request, tmp_path_factory):
    return seeing.make_folder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def plain(folder):
    """A copy that nobody switches."""
    return replace(load_model(folder, device="cpu"), end_ids=frozenset())


@pytest.fixture(scope="module")
def engine(folder):
    loaded = replace(load_model(folder, device="cpu"), end_ids=frozenset())
    engine = LocalEngine(loaded, EngineLimits(max_running=8, kv_cache_pages=60), torch_threads=1)
    assert (engine.stats().path, engine.stats().path_reason) == ("paged", "")
    yield engine
    engine.close()


def ask(text: str, *images: bytes, before: tuple[ChatMessage, ...] = (), **more: object) -> GenRequest:
    return GenRequest(
        next(ids), (*before, ChatMessage("user", text, images)), SamplingParams(max_new_tokens=12), **more
    )


@functools.cache
def generated(plain, *messages: ChatMessage) -> str:
    """What transformers' own ``generate`` answers."""
    turns = [
        {"role": m.role, "content": [{"type": "image"} for _ in m.images] + [{"type": "text", "text": m.text}]}
        for m in messages
    ]
    text = plain.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    prompt = plain.tokenizer.encode(text, add_special_tokens=False)
    inputs = {}
    if images := [decoded(image) for m in messages for image in m.images]:
        inputs = dict(plain.image_processor(images=images, return_tensors="pt"))
        counts = iter((inputs["image_grid_thw"].prod(-1) // 4).tolist())
        mark = plain.model.config.image_token_id
        prompt = [id for token in prompt for id in [token] * (next(counts) if token == mark else 1)]
        inputs["mm_token_type_ids"] = (torch.tensor([prompt]) == mark).int()
    given = torch.tensor([prompt])
    out = plain.model.generate(
        given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False, pad_token_id=0,
        eos_token_id=None, **inputs,
    )  # fmt: skip
    return whole(plain.tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True))


def whole(text: str) -> str:
    """Without half a character at its end, which the engine does not show."""
    return text.rstrip("\ufffd")


def text_of(reply) -> str:
    return whole(reply.result().text)


def test_pictures_and_texts_run_together_and_equal_generate(engine, plain):
    requests = [
        ask("what is it?", RED),
        ask("what is it?", BLUE),
        ask("what is it?"),
        ask("And these two?", WIDE, RED),
        ask("fox " * 30, BLUE),
    ]

    found = [text_of(reply) for reply in [engine.submit(request) for request in requests]]

    assert found == [generated(plain, *request.messages) for request in requests]
    assert len(set(found)) == len(found), "what it sees must make a difference"


def test_a_picture_seen_before_is_not_computed_again(engine, plain):
    first = ask("what is it? " + "fox " * 20, RED, cache_scope="talk")
    told = engine.submit(first).result().text
    before = engine.stats().prefix_hit_tokens
    more = ask("and now?", before=(*first.messages, ChatMessage("assistant", told)), cache_scope="talk")

    found = text_of(engine.submit(more))

    assert found == generated(plain, *more.messages)
    assert engine.stats().prefix_hit_tokens - before > 30


def test_another_picture_at_the_same_place_shares_nothing_of_it(engine, plain):
    texts = [text_of(engine.submit(ask("fox " * 20, image, cache_scope="one"))) for image in (RED, BLUE)]

    assert texts == [generated(plain, ChatMessage("user", "fox " * 20, (image,))) for image in (RED, BLUE)]


def test_pictures_that_give_way_are_seen_again(folder, plain):
    loaded = load_model(folder, device="cpu")
    builder = PromptBuilder(loaded.tokenizer, 128, vision=vision_of(loaded.model, loaded.image_processor))
    assembly = assemble(loaded, EngineLimits(max_running=8, kv_cache_pages=6))
    core = assembly.build(lambda events: None)
    questions = [
        ChatMessage("user", "what is it, quick brown fox jumps over the lazy dog?", (image,))
        for image in (RED, BLUE, WIDE)
    ]
    prompts = [builder.build([question], 12) for question in questions]
    sequences = [Sequence(next(ids), prompt.ids, 12, picture=prompt.picture) for prompt in prompts]

    for sequence in sequences:
        core.add(sequence)
    while core.has_work:
        core.step()

    found = [plain.tokenizer.decode(s.tokens[s.prompt_tokens :], skip_special_tokens=True) for s in sequences]
    assert [whole(text) for text in found] == [generated(plain, question) for question in questions]
    assert core.scheduler.preemptions > 0


def test_an_answer_that_holds_the_sign_of_a_picture_outlives_the_loss_of_its_pages(folder):
    loaded = load_model(folder, device="cpu")
    builder = PromptBuilder(loaded.tokenizer, 128, vision=vision_of(loaded.model, loaded.image_processor))
    core = assemble(loaded, EngineLimits(max_running=2, kv_cache_pages=20)).build(lambda events: None)
    prompt = builder.build([ChatMessage("user", "what is it?", (RED,))], 12)
    sequence = Sequence(next(ids), list(prompt.ids), 12, picture=prompt.picture)
    core.add(sequence)
    while len(sequence.tokens) < len(prompt.ids) + 4:
        core.step()

    sequence.tokens[-2] = loaded.model.config.image_token_id  # as if the model had chosen it
    core.pool.forget(sequence)
    core.scheduler._preempt(sequence)
    events = []
    while core.has_work:
        events += core.step()

    assert [event.error for event in events if event.error] == []
    assert [event.finish for event in events if event.finish] == ["length"]


@pytest.mark.long
def test_five_hundred_requests_with_and_without_pictures_get_the_text_of_generate(folder, plain):
    loaded, rng = load_model(folder, device="cpu"), random.Random(7)
    builder = PromptBuilder(loaded.tokenizer, 256, vision=vision_of(loaded.model, loaded.image_processor))
    core = assemble(loaded, EngineLimits(max_running=8, kv_cache_pages=18)).build(lambda events: None)
    left: dict[Sequence, tuple[ChatMessage, bool]] = {}

    def arrive() -> None:
        images = rng.choices((RED, BLUE, WIDE), k=rng.choice((0, 0, 1, 1, 2)))
        words = rng.choices(("fox", "dog", "quick", "lazy", "what"), k=rng.randrange(1, 25))
        question = ChatMessage("user", " ".join(words), tuple(images))
        prompt = builder.build([question], 12)
        sequence = Sequence(next(ids), prompt.ids, 12, picture=prompt.picture)
        left[sequence] = (question, False)
        core.add(sequence)

    while len(left) < 500 or core.has_work:
        for _ in range(min(rng.choice((0, 0, 0, 1, 1, 4)), 500 - len(left))):
            arrive()
        alive = [sequence for sequence in left if not sequence.is_over]
        if alive and rng.random() < 0.03:
            chosen = rng.choice(alive)
            chosen.is_over, left[chosen] = True, (left[chosen][0], True)
        core.step()

    for sequence, (question, is_cancelled) in left.items():
        found = plain.tokenizer.decode(sequence.tokens[sequence.prompt_tokens :], skip_special_tokens=True)
        wanted = generated(plain, question)
        assert wanted.startswith(whole(found)) if is_cancelled else whole(found) == wanted, question
    assert core.scheduler.preemptions > 20
    assert core.scheduler.prefix_hit_tokens > 0
    assert core.pool.used == 0


BROKEN = [
    b"",
    b"no picture",
    seeing.picture()[:60],
    seeing.picture(format="JPEG")[:60],
    b"GIF89a",
    b"%!PS-Adobe-3.0\n(x) run",
]


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(BadRequest, match="cannot be read; send a PNG"):
        decoded(data)


def test_a_broken_picture_harms_nobody(engine, plain):
    beside = engine.submit(ask("hi", RED))

    for data in BROKEN:
        with pytest.raises(BadRequest):
            engine.submit(ask("hi", data))

    assert text_of(beside) == generated(plain, ChatMessage("user", "hi", (RED,)))


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(vision_module, "_MAX_FILE_PIXELS", 1000)

    with pytest.raises(BadRequest, match="100 x 60 pixels, which is too many"):
        decoded(RED)


def test_large_pictures_are_shown_smaller():
    assert decoded(seeing.picture(size=(4000, 1000))).size == (2000, 500)


def test_what_is_transparent_is_white():
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(file, "PNG")

    assert decoded(file.getvalue()).getpixel((0, 0)) == (255, 255, 255)


def test_nobody_but_the_template_places_pictures(engine, plain):
    forged = ask("<|vision_start|><|image_pad|><|vision_end|> what is it?", RED)

    assert engine.submit(forged).result().finish == "length"


def test_an_answer_goes_on_where_its_pictures_end(plain):
    vision = vision_of(plain.model, plain.image_processor)
    prompt, picture = vision.placed([5, 6, vision.image_id, 7, 8], [vision.read(WIDE)])
    text_positions, _ = plain.model.model.get_rope_index(
        input_ids=torch.tensor([[*prompt, 9, 9, 9]]),
        image_grid_thw=picture.inputs["image_grid_thw"],
        mm_token_type_ids=torch.nn.functional.pad(picture.inputs["mm_token_type_ids"], (0, 3)),
    )

    positions, inputs = picture.for_tokens(len(prompt) + 3, torch.device("cpu"))

    assert torch.equal(positions, text_positions[:, 0])
    assert inputs["mm_token_type_ids"].shape == (1, len(prompt) + 3)
    assert picture.end == len(prompt) - 2


def test_old_pictures_go_with_their_turns(plain):
    vision = vision_of(plain.model, plain.image_processor)
    builder = PromptBuilder(plain.tokenizer, 128, vision=vision)
    turns = [ChatMessage("user", "old", (RED,)), ChatMessage("assistant", "fox " * 12)] * 4

    prompt = builder.build((*turns, ChatMessage("user", "new", (BLUE,))), 16)

    assert len(prompt.ids) <= 112
    assert prompt.picture.inputs["image_grid_thw"].shape[0] < 5
    assert prompt.picture.end < len(prompt.ids)
