"""Numbers between host and device without either waiting for the other. On a CPU nothing has to move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(
    numbers: Sequence[int] | Sequence[float] | Tensor, device: torch.device, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Return at once; what the device is told next finds them there. A tensor keeps its own type.

    On a GPU through pinned memory: a copy from ordinary memory waits until all work before it is done. torch keeps the
    pinned block until the copy has happened.
    """
    tensor = numbers if isinstance(numbers, Tensor) else torch.tensor(numbers, dtype=dtype)
    if device.type != "cuda" or not tensor.numel():
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def refill(target: Tensor, numbers: Tensor) -> None:
    """Overwrite a tensor of the device once all that was told before has read it. Returns at once."""
    target.copy_(numbers.pin_memory() if target.is_cuda else numbers, non_blocking=True)


class Download:
    """Token ids on their way to the host; what is written to their tensor later does not change them."""

    def __init__(self, numbers: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        if numbers.device.type != "cuda":
            self._host = numbers.clone()
            return
        self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        self._host.copy_(numbers, non_blocking=True)
        self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._arrived.record()

    def wait(self) -> list[int]:
        if self._arrived is not None:
            self._arrived.synchronize()
        found: list[int] = self._host.tolist()
        return found
