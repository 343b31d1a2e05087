"""How busy and how full the GPUs of this process are, for its metrics. Plain Python, no Django.

Asked of NVIDIA's management library where ``nvidia-ml-py`` is installed and the driver has it, else, for the memory,
of torch. A process in which nobody has loaded torch and used a GPU tells nothing, and loads nothing.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)


def utilization() -> dict[str, float] | None:
    """Busy share of each GPU by its number on the machine; None where nobody can tell."""
    found = {number: rates / 100 for number, rates in _told(_busy_percent)}
    return found or None


def memory_bytes() -> dict[str, float] | None:
    """Memory in use on each GPU, by whatever process, by its number on the machine; None without a GPU."""
    found = dict(_told(_used_bytes))
    if not found and (cuda := _cuda()):
        found = {str(place): float(_used_by_torch(cuda, place)) for place in range(cuda.device_count())}
    return found or None


def _told(read: Callable[[Any, Any], float]) -> Iterator[tuple[str, float]]:
    """(number on the machine, what the library says) of each GPU that this process may use."""
    cuda = _cuda()
    nvml = _nvml() if cuda else None
    if nvml is None:
        return
    for place in range(cuda.device_count()):
        try:  # by its name, for CUDA_VISIBLE_DEVICES numbers anew
            gpu = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{cuda.get_device_properties(place).uuid}")
            yield str(nvml.nvmlDeviceGetIndex(gpu)), read(nvml, gpu)
        except (nvml.NVMLError, AttributeError) as error:  # a slice of one (MIG), a lost one, an old torch
            logger.debug("a GPU does not tell", extra={"place": place, "reason": str(error)})


def _busy_percent(nvml: Any, gpu: Any) -> float:
    return float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)


def _used_bytes(nvml: Any, gpu: Any) -> float:
    return float(nvml.nvmlDeviceGetMemoryInfo(gpu).used)


def _used_by_torch(cuda: Any, place: int) -> int:
    free, total = cuda.mem_get_info(place)
    return int(total - free)


def held_by_torch() -> int:
    """Bytes that torch holds for this process, on all its GPUs."""
    cuda = _cuda()
    return sum(int(cuda.memory_reserved(place)) for place in range(cuda.device_count())) if cuda else 0


def _cuda() -> Any:
    """torch's, if somebody else has loaded torch and uses a GPU. Another thread may be importing it just now."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None


@cache
def _nvml() -> Any:
    """The library, ready; None where it is not there, and it is not looked for again."""
    try:
        nvml = import_module("pynvml")
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        logger.warning("the GPUs cannot be asked how busy they are", extra={"reason": str(error)})
        return None
    return nvml
