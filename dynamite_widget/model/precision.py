"""Which precision is fast here: bfloat16 on processors with instructions for it."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["fast_dtype", "has_native_bfloat16"]


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
