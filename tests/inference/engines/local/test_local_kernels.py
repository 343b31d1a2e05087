"""The Triton kernels, interpreted on the CPU, each program in a process of its own: see ``kernel_cases``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.inference.engines.local import tiny

pytest.importorskip("triton", reason="Triton has no wheels for this platform")
NAMES = [
    "as many key heads as heads",
    "grouped heads, odd size",
    "one key head, float16",
    "window inside a page",
    "window over pages",
    "softcap",
    "softcap, window, other size of values",
    "more parts than keys",
    "a step, float32, window None, new prompts",
    "a step, float32, window None, prompts in chunks",
    "a step, float32, window 24, new prompts",
    "a step, float32, window 24, prompts in chunks",
    "norm",
    "norm, float16",
    "norm of one more",
    "store",
    "draw",
    "draw from few",
]


def interpreted(program: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.inference.engines.local.{program}", *words]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def differences() -> dict[str, tuple[float, float]]:
    return interpreted("kernel_cases", "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_computes_what_plain_arithmetic_does(name, differences):
    found, allowed = differences[name]

    assert found <= allowed


def test_every_kernel_case_is_looked_at(differences):
    assert sorted(differences) == sorted(NAMES)


def test_models_on_the_kernels_give_the_tokens_of_generate():
    names = ["qwen3", "gemma2"]  # gemma2 has a softcap, and windows in every other layer
    assert set(names) <= set(tiny.ARCHITECTURES)

    assert interpreted("backend_cases", "cpu", "--graphs", *names) == dict.fromkeys(names, "")
