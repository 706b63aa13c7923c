"""Best and second best of a stack of maps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["two_best"]


def two_best(maps: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Find the largest and the second-largest value at every place.

    A loop over maps, as `topk` along the first axis takes several times as long on CPUs.

    Parameters
    ----------
    maps : iterable of Tensor
        At least one; all of the same shape.

    Returns
    -------
    first, second : Tensor
        Values; second is -inf where there is one map only.
    index : Tensor
        int32 index of the first map that has the largest value.
    """
    rest = iter(maps)
    first = next(rest)
    second = torch.full_like(first, -torch.inf)
    index = torch.zeros(first.shape, dtype=torch.int32, device=first.device)
    for i, values in enumerate(rest, 1):
        wins = values > first
        second = torch.maximum(second, torch.minimum(first, values))
        first = torch.maximum(first, values)
        index = torch.where(wins, i, index)
    return first, second, index
