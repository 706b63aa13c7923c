"""Between the processor and an accelerator: few copies, and none that the processor waits for.

A copy from pageable memory stops the program until it is done. From pinned (page-locked) memory
it queues up behind the computations that were started before it, like these.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["download", "id_dtype", "upload"]


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor from the processor to a device.

    Parameters
    ----------
    tensor : Tensor
        On the CPU.
    device : torch.device
        Where it goes; the CPU itself gets `tensor` back.

    Returns
    -------
    Tensor
        On CUDA devices the copy may still be under way: it is done before anything started later.
    """
    if device.type != "cuda":
        # Elsewhere a copy that nobody waits for may read memory that is already given back.
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensor: Tensor) -> NDArray[np.generic]:
    """Wait for a tensor and bring it to the processor as an array of its type.

    The array lies in pinned memory, of which there should be little: keep a copy.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu().numpy()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor).numpy()


def id_dtype(largest: int) -> torch.dtype:
    """Return the smallest integer type that holds the numbers 0 to `largest`."""
    if largest <= torch.iinfo(torch.uint8).max:
        return torch.uint8
    return torch.int16 if largest <= torch.iinfo(torch.int16).max else torch.int32
