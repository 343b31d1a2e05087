"""Train the demo model: ``python -m inference.demo.train`` (one CPU core, about 10 minutes, repeatable by seed).

Answers are fixed, so one token decides which answer is given. Most batches therefore end a few tokens into the
answer, and only one batch in ten carries whole answers; that makes the run about four times shorter.
"""

import argparse
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from inference.demo.corpus import SEED, Question, answers, build_corpus, practised
from inference.demo.tokenizer import ASSISTANT, END, PAD, USER, parents_of, train_tokenizer

HERE = Path(__file__).parent
VOCABULARY_SIZE = 2600
STEPS = 2600
BATCH_SIZE = 64
BATCHES_SORTED_TOGETHER = 30
WHOLE_ANSWERS_EVERY = 10  # steps
SHORT_ANSWER_TOKENS = 3
FIRST_WORDS_REPEATS = 5  # how much more often than others the first words of newcomers are practised
SPLIT_SHARE = 0.1  # share of question tokens that are split into the two parts they were merged from
PEAK_LEARNING_RATE = 2e-3
WARM_UP_STEPS = 100
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Example:
    prompt_ids: list[int]
    answer_ids: list[int]


def render(corpus: list[Question]) -> list[str]:
    """The prompts that the chat template makes of the questions."""
    chats = [[{"role": "user", "content": question.text}] for question in corpus]
    any_tokenizer = train_tokenizer([], 300)  # the template needs no vocabulary
    return cast(list[str], any_tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True))


def new_tokenizer(prompts: list[str]) -> PreTrainedTokenizerFast:
    """Answers count many times: their words become single tokens, which makes answering fast."""
    questions = [prompt.removeprefix(USER).removesuffix(END + ASSISTANT) for prompt in prompts]
    texts = [text for by_language in answers().values() for text in by_language.values()]
    return train_tokenizer(questions + texts * 400, VOCABULARY_SIZE)


def encode(tokenizer: PreTrainedTokenizerFast, prompts: list[str], corpus: list[Question]) -> list[Example]:
    answer_ids = {text: tokenizer.encode(text + END) for pair in answers().values() for text in pair.values()}
    return [
        Example(prompt_ids, answer_ids[answers()[question.intent][question.language]])
        for prompt_ids, question in zip(tokenizer(prompts)["input_ids"], corpus, strict=True)
    ]


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    end_id = tokenizer.convert_tokens_to_ids(END)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=48,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    config._attn_implementation = "eager"  # for short rows several times faster on a CPU than the fused kernel
    return Qwen3ForCausalLM(config)


class Batches:
    """Endless training batches in an order that the seed fixes."""

    def __init__(self, examples: list[Example], tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.examples = examples
        self.parents = parents_of(tokenizer)
        self.pad_id = tokenizer.convert_tokens_to_ids(PAD)
        self.rng = random.Random(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(input ids, labels), each (batch, tokens); only answer tokens are labelled."""
        step = 0
        while True:
            for batch in self._batches_of_similar_length():
                step += 1
                is_whole = step % WHOLE_ANSWERS_EVERY == 0
                yield self._batch(batch[: BATCH_SIZE // 2] if is_whole else batch, is_whole)

    def _batches_of_similar_length(self) -> list[list[Example]]:
        """One pass over the examples; padding little, yet mixed anew each time."""
        order = self.rng.sample(self.examples, len(self.examples))
        batches: list[list[Example]] = []
        for start in range(0, len(order), BATCH_SIZE * BATCHES_SORTED_TOGETHER):
            part = order[start : start + BATCH_SIZE * BATCHES_SORTED_TOGETHER]
            part.sort(key=lambda example: len(example.prompt_ids))
            batches += [part[at : at + BATCH_SIZE] for at in range(0, len(part), BATCH_SIZE)]
        self.rng.shuffle(batches)
        return batches

    def _batch(self, examples: list[Example], is_whole: bool) -> tuple[Tensor, Tensor]:
        answer_tokens = None if is_whole else SHORT_ANSWER_TOKENS
        prompts = [self._split_some(example.prompt_ids) for example in examples]
        targets = [example.answer_ids[:answer_tokens] for example in examples]
        rows = list(zip(prompts, targets, strict=True))
        width = max(len(prompt) + len(target) for prompt, target in rows)
        ids = [[*prompt, *target, *[self.pad_id] * (width - len(prompt) - len(target))] for prompt, target in rows]
        labels = [
            [*[IGNORED] * len(prompt), *target, *[IGNORED] * (width - len(prompt) - len(target))]
            for prompt, target in rows
        ]
        return torch.tensor(ids), torch.tensor(labels)

    def _split_some(self, ids: list[int]) -> list[int]:
        """Byte-pair dropout, backwards: a merge is undone by chance, so that rare spellings are practised."""
        split: list[int] = []
        for token in ids:
            if token in self.parents and self.rng.random() < SPLIT_SHARE:
                split += self._split_some(list(self.parents[token]))
            else:
                split.append(token)
        return split


def learning_rate(step: int, steps: int) -> float:
    if step < WARM_UP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARM_UP_STEPS
    return PEAK_LEARNING_RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def answer_loss(model: Qwen3ForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of the answer tokens; the vocabulary is looked at only where it counts."""
    targets = labels[:, 1:]
    is_answer = targets != IGNORED
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[is_answer])
    return torch.nn.functional.cross_entropy(logits.float(), targets[is_answer])


def first_token_accuracy(model: Qwen3ForCausalLM, examples: list[Example], pad_id: int) -> float:
    """Share of questions whose first answer token is right; it decides the answer."""
    right = 0
    examples = sorted(examples, key=lambda example: len(example.prompt_ids))
    for start in range(0, len(examples), 256):
        part = examples[start : start + 256]
        width = max(len(example.prompt_ids) for example in part)
        ids = torch.tensor([e.prompt_ids + [pad_id] * (width - len(e.prompt_ids)) for e in part])
        ends = torch.tensor([len(example.prompt_ids) - 1 for example in part])
        with torch.inference_mode():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[torch.arange(len(part)), ends]
            guesses = model.lm_head(hidden).argmax(-1).tolist()
        right += sum(guess == example.answer_ids[0] for guess, example in zip(guesses, part, strict=True))
    return right / len(examples)


def new_optimizer(model: Qwen3ForCausalLM) -> torch.optim.Optimizer:
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    plain = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def train_step(model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, ids: Tensor, labels: Tensor) -> float:
    loss = answer_loss(model, ids, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def train(model: Qwen3ForCausalLM, batches: Batches, steps: int, log: "Log", validation: list[Example]) -> None:
    optimizer = new_optimizer(model)
    total = 0.0
    for step, (ids, labels) in zip(range(steps), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        total += train_step(model, optimizer, ids, labels)
        if (step + 1) % 100 == 0:
            log.write(f"step {step + 1} loss {total / 100:.4f}")
            total = 0.0
        if validation and (step + 1) % 600 == 0:
            log.write(f"validation {100 * first_token_accuracy(model, validation, batches.pad_id):.2f} %")


class Log:
    """Lines with the seconds since the start, to the screen and to a file."""

    def __init__(self, path: Path) -> None:
        self.started_s = time.monotonic()
        self.file = path.open("w", encoding="utf-8")

    def write(self, line: str) -> None:
        text = f"{time.monotonic() - self.started_s:7.1f} s  {line}"
        print(text, flush=True)
        self.file.write(text + "\n")
        self.file.flush()


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    end_id = tokenizer.convert_tokens_to_ids(END)
    stops = [end_id, tokenizer.convert_tokens_to_ids(USER), tokenizer.convert_tokens_to_ids(ASSISTANT)]
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=128, eos_token_id=stops, pad_token_id=tokenizer.pad_token_id
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--hold-back", action="store_true", help="leave wordings out and validate on them")
    parser.add_argument("--output", type=Path, default=HERE / "model")
    parser.add_argument("--log", type=Path, default=HERE / "train_log.txt")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    log = Log(options.log)
    corpus = build_corpus(split="training" if options.hold_back else "all")
    unseen = build_corpus(SEED + 1, "validation", per_intent=60) if options.hold_back else []
    repeated = practised(corpus)
    log.write(f"{len(corpus)} questions, {len(repeated)} of them repeated, {len(unseen)} for validation")
    corpus += repeated * FIRST_WORDS_REPEATS
    prompts = render(corpus)
    unseen_prompts = render(unseen) if unseen else []
    tokenizer = new_tokenizer(prompts)
    model = new_model(tokenizer)
    log.write(f"{len(tokenizer)} tokens, {model.num_parameters()} parameters")
    log.write(f"{options.steps} steps of {BATCH_SIZE} questions, seed {SEED}")
    batches = Batches(encode(tokenizer, prompts, corpus), tokenizer, SEED)
    train(model, batches, options.steps, log, encode(tokenizer, unseen_prompts, unseen) if unseen else [])
    save(model, tokenizer, options.output)
    log.write("saved")


if __name__ == "__main__":
    main()
