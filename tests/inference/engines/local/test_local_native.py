"""The C functions for the CPU: what they compute, and models where there is no compiler for them."""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from inference.engines.local import attention_native, native
from inference.engines.local.adapter import Adapter
from inference.engines.local.backend import CPU, NATIVE
from inference.engines.local.native import Heads, Native, native_for
from tests import logged
from tests.inference.engines.local import tiny
from tests.inference.engines.local.test_local_tokens import TIGHT, bench, check, mixed

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


@pytest.fixture
def no_compiler(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", "")
    native_for.cache_clear()
    yield
    native_for.cache_clear()


@needs_compiler
@pytest.mark.parametrize(
    ("heads", "window", "softcap"),
    [
        (Heads(2, 2, 48, 48), None, None),
        (Heads(1, 4, 24, 40), None, 2.0),
        (Heads(3, 1, 16, 16), 21, None),
        (Heads(2, 3, 7, 5), 5, 1.5),
    ],
)
def test_attention_is_that_of_plain_arithmetic(heads, window, softcap):
    torch.manual_seed(3)
    lengths = torch.tensor([1, 16, 17, 70])
    keys = torch.randn(20, 16, heads.kv_heads, heads.key_size)
    values = torch.randn(20, 16, heads.kv_heads, heads.value_size)
    table = torch.randperm(20)[:20].view(4, 5).int()
    query = torch.randn(4, heads.kv_heads * heads.group, heads.key_size) * 3
    out = torch.empty(4, heads.kv_heads * heads.group, heads.value_size)

    native_for(heads).attend(query, keys, values, table, lengths, out, scaling=0.3, window=window, softcap=softcap)

    for row, length in enumerate(lengths.tolist()):
        seen = slice(max(0, length - (window or length)), length)
        k, v = (pages[table[row]].flatten(0, 1)[seen].transpose(0, 1) for pages in (keys, values))
        k, v = (part.repeat_interleave(heads.group, 0) for part in (k, v))
        scores = query[row, :, None] @ k.transpose(1, 2) * 0.3
        scores = softcap * torch.tanh(scores / softcap) if softcap else scores
        torch.testing.assert_close(out[row], (scores.softmax(-1) @ v)[:, 0])


PROMPTS = [
    (Heads(2, 2, 48, 48), 0, 70, None, None),
    (Heads(2, 2, 48, 48), 130, 46, None, None),
    (Heads(1, 4, 24, 40), 16, 33, None, 2.0),
    (Heads(3, 1, 16, 16), 0, 100, 21, None),
    (Heads(3, 1, 16, 16), 90, 40, 64, None),
    (Heads(2, 3, 7, 5), 63, 2, 5, 1.5),
    (Heads(2, 7, 64, 64), 199, 1, None, None),
]


def attended(native: Native, heads: Heads, start: int, count: int, **options: Any) -> tuple[Tensor, Tensor]:
    """What the function makes of a prompt's tokens, and plain arithmetic."""
    torch.manual_seed(5)
    keys = torch.randn(20, 16, heads.kv_heads, heads.key_size)
    values = torch.randn(20, 16, heads.kv_heads, heads.value_size)
    table = torch.randperm(20)[: -(-(start + count) // 16)]
    query = torch.randn(count, heads.kv_heads * heads.group, heads.key_size) * 3
    out = torch.empty(count, heads.kv_heads * heads.group, heads.value_size)
    native.attend_prompt(query, keys, values, table, start, out, scaling=0.3, **options)

    k, v = (pages[table].flatten(0, 1)[: start + count].transpose(0, 1) for pages in (keys, values))
    k, v = (part.repeat_interleave(heads.group, 0) for part in (k, v))
    scores = query.transpose(0, 1) @ k.transpose(1, 2) * 0.3
    softcap, window = options["softcap"], options["window"]
    scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    behind = torch.arange(start, start + count)[:, None] - torch.arange(start + count)
    scores = scores.masked_fill((behind < 0) | (behind >= (window or start + count)), -torch.inf)
    return out, (scores.softmax(-1) @ v).transpose(0, 1)


@needs_compiler
@pytest.mark.parametrize(("heads", "start", "count", "window", "softcap"), PROMPTS)
def test_attention_of_prompts_is_that_of_plain_arithmetic(heads, start, count, window, softcap):
    found, wanted = attended(native_for(heads), heads, start, count, window=window, softcap=softcap)

    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="its instructions are those of x86-64")
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3"])
def test_cpus_with_narrower_registers_compute_the_same(level, monkeypatch):
    flags = [f"-march={level}" if flag.startswith("-march") else flag for flag in native._FLAGS]
    monkeypatch.setattr(native, "_FLAGS", flags)
    for heads, start, count, window, softcap in PROMPTS[:4]:
        narrow = Native(native._built("cc", heads))

        found, wanted = attended(narrow, heads, start, count, window=window, softcap=softcap)

        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    given, weight = torch.randn(11, 40), torch.randn(64, 40)
    packed = weight.view(2, 32, 40).transpose(1, 2).contiguous()
    torch.testing.assert_close(narrow.product(given, packed), given @ weight.T, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_the_last_layer_computes_only_the_tokens_that_are_sampled_after(threads, tokenizer, monkeypatch):
    monkeypatch.setattr(attention_native, "_PAGES_A_THREAD", 2)
    computed: list[int] = []
    attend = Native.attend_prompt

    def counted(native: Native, query: Tensor, *others: Any, **options: Any) -> None:
        computed.append(len(query))
        attend(native, query, *others, **options)

    monkeypatch.setattr(Native, "attend_prompt", counted)
    before = torch.get_num_threads()
    running = bench("llama", tokenizer)  # of two layers; 48 tokens a step
    computed.clear()
    torch.set_num_threads(threads)

    sequence = running.add("long", list(range(5, 85)), 2)
    running.run()

    torch.set_num_threads(before)
    assert sorted(computed) == ([32, 48] if threads == 1 else [16, 32, 32])
    check(running, {sequence: False})


@needs_compiler
def test_a_number_that_is_none_stays_none():
    native, options = native_for(Heads(1, 1, 16, 16)), {"scaling": 1.0, "window": None, "softcap": None}
    keys = torch.randn(2, 16, 1, 16)
    keys[1, 3] = torch.nan
    query, single, prompt = torch.randn(5, 1, 16), torch.empty(1, 1, 16), torch.empty(5, 1, 16)
    table, lengths = torch.tensor([[1]], dtype=torch.int32), torch.tensor([5])

    native.attend(query[:1], keys, keys, table, lengths, single, **options)
    native.attend_prompt(query, keys, keys, torch.tensor([1]), 0, prompt, **options)

    assert single.isnan().all()
    assert prompt[3:].isnan().all()


@needs_compiler
def test_a_model_in_float32_runs_on_them(tokenizer):
    loaded = tiny.make("qwen3", tokenizer)
    adapter = Adapter(loaded.model)
    norms = [m for m in loaded.model.modules() if type(m).__name__.endswith("RMSNorm")]

    assert adapter.backend is NATIVE
    assert all("forward" in vars(norm) for norm in norms)

    adapter.restore()
    assert not any("forward" in vars(norm) for norm in norms)


@needs_compiler
def test_the_rows_of_a_step_are_shared_among_threads(tokenizer, monkeypatch):
    monkeypatch.setattr(attention_native, "_PAGES_A_THREAD", 2)  # prompts here are short
    running = bench("mistral", tokenizer, replace(TIGHT, kv_cache_pages=80))
    before = torch.get_num_threads()
    torch.set_num_threads(3)

    left, _ = mixed(running, 10, seed=4)

    torch.set_num_threads(before)
    check(running, left)


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_without_a_compiler_torch_computes_alone(name, tokenizer, no_compiler, caplog):
    caplog.set_level(logging.INFO)

    running = bench(name, tokenizer)
    left, _ = mixed(running, 16, seed=3)

    assert running.core.runner.backend is CPU
    said = [record.message for record in logged.by(caplog, "inference")]
    assert said == ["no C compiler (cc, gcc, clang): local models on the CPU are somewhat slower"]
    check(running, left)


def test_a_compiler_that_fails_is_no_obstacle(tokenizer, no_compiler, tmp_path, monkeypatch, caplog):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho no such header >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Adapter(tiny.make("llama", tokenizer).model).backend is CPU
    assert [(r.levelname, r.reason) for r in logged.by(caplog, "inference")] == [("WARNING", "no such header\n")]
