"""What the GPU's path finds on this machine, as JSON, and how its decode kernel is best cut. Needs torch, not Django.

python -m scripts.gpu_facts cpu|cuda
"""

from __future__ import annotations

import json
import sys
import time

import torch
import transformers
import triton

from inference.engines.local import attention_gpu, kernels
from inference.engines.local.kernels import Tuning
from inference.engines.local.limits import PAGE_TOKENS

_HEADS, _KV_HEADS, _SIZE, _CONTEXT = 32, 8, 128, 1024  # of Qwen3-8B
_TUNINGS = [Tuning(keys, warps, stages) for keys in (32, 64, 128) for warps in (2, 4, 8) for stages in (2, 3)]
_ROUNDS = 30


def facts(device: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {
        "torch": [torch.__version__],
        "transformers": [transformers.__version__],
        "triton": [triton.__version__],
        "prompts by torch's variable-length attention": [str(attention_gpu.HAS_VARLEN)],
    }
    if device != "cpu":
        found["GPU"] = [torch.cuda.get_device_name()]
        for rows in (1, 64, 256):
            found[f"decode kernel, {rows} rows, us a layer: best first"] = _ranked(rows)
    return found


def _ranked(rows: int) -> list[str]:
    times = sorted((_microseconds(rows, tuning), str(tuning)) for tuning in _TUNINGS)
    return [f"{us:.0f} {tuning}" for us, tuning in times[:3]] + [f"{_microseconds(rows, Tuning()):.0f} as it is set"]


def _microseconds(rows: int, tuning: Tuning) -> float:
    pages = rows * _CONTEXT // PAGE_TOKENS
    keys, values = torch.randn(2, pages, PAGE_TOKENS, _KV_HEADS, _SIZE, device="cuda", dtype=torch.bfloat16)
    table = torch.randperm(pages, device="cuda").int().view(rows, -1)
    lengths = torch.full((rows,), _CONTEXT, device="cuda")
    query = torch.randn(rows, _HEADS, _SIZE, device="cuda", dtype=torch.bfloat16)

    def run() -> None:
        kernels.attend(query, keys, values, table, lengths, scaling=_SIZE**-0.5, tuning=tuning)

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    graph.replay()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        graph.replay()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / _ROUNDS * 1e6


if __name__ == "__main__":
    print(json.dumps(facts(sys.argv[1])))
