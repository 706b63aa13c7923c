"""Which precision is fast here: bfloat16 on processors with instructions for it."""

from __future__ import annotations

import contextlib
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["autocast_dtype", "fast_dtype", "has_native_bfloat16", "in_float32", "linear"]


@cache
def has_native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices natively (AVX-512 BF16 or AMX).

    Others emulate it, which is slower than float32.
    """
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        test = getattr(torch.cpu, name, None)
        if test is not None and test():
            return True
    return False


def fast_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type for the large matrix products of a CPU network with parameters of `dtype`."""
    return torch.bfloat16 if dtype == torch.float32 and has_native_bfloat16() else dtype


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Type that autocast lowers products to on a kind of device; None where it is off."""
    if not torch.is_autocast_enabled(device_type):
        return None
    return torch.get_autocast_dtype(device_type)


def in_float32(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off on accelerators, for what must not be rounded; no effect on CPUs."""
    if device.type == "cpu":
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def linear(layer: nn.Linear, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Apply a linear layer with input, weights and output in `dtype`."""
    return F.linear(x.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))
