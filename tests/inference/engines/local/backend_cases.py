"""Whole models on the GPU's attention, against plain ``generate``, as a program: prints what went wrong, as JSON.

On a CPU start it with TRITON_INTERPRET=1; there it is slow, so name few architectures.

    python -m tests.inference.engines.local.backend_cases cpu|cuda [--graphs] [ARCHITECTURE ...]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer

import inference.demo
from inference.engines.local import backend_gpu
from inference.engines.local.adapter import Adapter
from inference.engines.local.core import PagedCore
from inference.engines.local.graphs import Again, CudaGraphs, GraphRunner, with_graphs
from inference.engines.local.kv import KVCache
from inference.engines.local.limits import EngineLimits
from inference.engines.local.model import LocalModel
from inference.engines.local.pages import PagePool
from inference.engines.local.runner import Runner, StepRunner
from inference.engines.local.sequence import Sequence
from tests.inference.engines.local import tiny

PAGES = 64
LIMITS = EngineLimits(max_running=4, kv_cache_pages=PAGES, prefill_tokens=24)


def wrong(name: str, device: str, *, graphs: bool) -> str:
    """Run a few requests beside each other, with prompts in chunks; say which answer differs, or nothing."""
    loaded = tiny.make(name, AutoTokenizer.from_pretrained(Path(inference.demo.__file__).parent / "model"))
    loaded.model.to(device)
    plain = tiny.Plain.copy_of(loaded)
    norms = sum(type(module).__name__.endswith("RMSNorm") for module in loaded.model.modules())
    core = PagedCore(_runner(loaded, torch.device(device), graphs=graphs), PagePool(PAGES), LIMITS, look_ahead=True)
    if sum("forward" in vars(module) for module in loaded.model.modules()) != norms:
        return "some norms were not fused"
    rng = random.Random(7)
    lengths = [(3, 9), (45, 6), (17, 8)] if device == "cpu" else [(rng.randrange(1, 150), 40) for _ in range(12)]
    asked = [[rng.randrange(5, tiny.VOCABULARY) for _ in range(length)] for length, _ in lengths]
    added = [
        Sequence(str(at), list(prompt), new, end_ids=loaded.end_ids)
        for at, (prompt, (_, new)) in enumerate(zip(asked, lengths, strict=True))
    ]
    for sequence in added:
        core.add(sequence)
    while core.has_work:
        if errors := [event.error for event in core.step() if event.error]:
            return errors[0]
    if graphs and not (isinstance(core.runner, GraphRunner) and core.runner.rows) and name != "qwen3-moe":
        return "no step was recorded"
    for sequence, prompt in zip(added, asked, strict=True):
        found, wanted = sequence.tokens[len(prompt) :], plain.answer(prompt, sequence.max_new_tokens)
        if found != wanted:
            return f"after {len(prompt)} tokens: {found} instead of {wanted}"
    return ""


def _runner(loaded: LocalModel, device: torch.device, *, graphs: bool) -> StepRunner:
    adapter = Adapter(loaded.model, backend_gpu.GPU)
    cache = KVCache(adapter.layers, PAGES, loaded.model.dtype, device)
    runner = Runner(adapter, cache, device, max_running=4, max_pages=16)
    if not graphs:
        return runner
    return with_graphs(runner, CudaGraphs() if device.type == "cuda" else Again(), 4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    device, *words = sys.argv[1:]
    names = [word for word in words if word != "--graphs"] or list(tiny.ARCHITECTURES)
    print(json.dumps({name: wrong(name, device, graphs="--graphs" in words) for name in names}))
