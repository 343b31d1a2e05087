"""What GPUs tell of themselves, by a management library that is a real shared object; torch stands in for a GPU's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import prometheus_client
import pytest

from inference import gpus

ASK = """
import json, sys, types
devices = {devices!r}
cuda = types.SimpleNamespace(
    is_initialized=lambda: bool(devices), device_count=lambda: len(devices),
    get_device_properties=lambda place: types.SimpleNamespace(uuid=devices[place]),
    mem_get_info=lambda place: (30, 100),
)
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
if {without_package!r}:
    sys.modules["pynvml"] = None
from inference import gpus
print(json.dumps([gpus.utilization(), gpus.memory_bytes()]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The folder with a libnvidia-ml.so.1 in it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    source, built = Path(__file__).parent / "fake_nvml.c", folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source], check=True)
    return folder


def told(library: Path | str, *devices: str, without_package: bool = False) -> list[dict[str, float] | None]:
    script = ASK.format(devices=devices, without_package=without_package)
    env = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_each_gpu_by_its_number_on_the_machine(library):
    assert told(library, "one") == [{"1": 0.37}, {"1": 5e9}]


def test_a_lost_gpu_hides_no_other(library):
    assert told(library, "zero", "one") == [{"1": 0.37}, {"1": 5e9}]


@pytest.mark.parametrize("without_package", [True, False])
def test_without_the_library_torch_tells_the_memory(tmp_path, without_package):
    assert told(tmp_path, "one", without_package=without_package) == [None, {"0": 70.0}]


def test_a_torch_that_another_thread_is_importing_tells_nothing_yet(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert (gpus.utilization(), gpus.memory_bytes(), gpus.held_by_torch()) == (None, None, 0)

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=types.ModuleType("torch.cuda")))
    assert gpus.held_by_torch() == 0


def test_a_process_without_a_gpu_tells_and_loads_nothing(library):
    assert told(library) == [None, None]
    assert (gpus.utilization(), gpus.memory_bytes()) == (None, None)
    assert b"clawdbot_gpu_" not in prometheus_client.generate_latest()
