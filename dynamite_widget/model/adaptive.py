"""Logit maps that are evaluated pixel by pixel: coarsely first, then where the label may change.

A grid of every fourth pixel is evaluated, then every second and at last every pixel of the cells in
which the winning label changes or is in doubt, and those around clicks. What is evaluated is exact;
the rest is interpolated between pixels that agree. The result depends on the present clicks alone,
never on how they came about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["adaptive_logits", "fuse_spans", "group_spans"]

#: Distances between evaluated pixels, coarse to fine; the last step is 1, every pixel.
_STEPS = (4, 2)
#: A cell is in doubt if the margin between best and second-best label at one of its corners is less
#: than this multiple of how much it varies over the corners.
_DOUBT = (1.0, 0.5)
#: Pixels around each click that are evaluated at the coarse and at the fine step.
_CLICK_RADII = (3, 1)


def group_spans(owners: Sequence[int]) -> tuple[list[int], list[slice]]:
    """Find the runs of equal owners: their ids and the channels of each.

    Raises
    ------
    ValueError
        If the channels of one owner are not side by side.
    """
    ids: list[int] = []
    starts: list[int] = []
    for channel, owner in enumerate(owners):
        if not ids or ids[-1] != owner:
            ids.append(owner)
            starts.append(channel)
    if len(set(ids)) != len(ids):
        raise ValueError(f"channels of one instance must be side by side, got owners {owners}")
    return ids, [slice(a, b) for a, b in zip(starts, [*starts[1:], len(owners)], strict=True)]


def fuse_spans(logits: Tensor, spans: Sequence[slice]) -> Tensor:
    """(C, ...) logits of channels → (G, ...) logits of groups: the maximum over each span."""
    if all(span.stop - span.start == 1 for span in spans):
        return logits
    return torch.stack([logits[span].amax(dim=0) for span in spans])


def adaptive_logits(
    evaluate: Callable[[Tensor], Tensor],
    spans: Sequence[slice],
    size: tuple[int, int],
    clicks_yx: Tensor,
) -> Tensor:
    """Evaluate logits where they decide about labels and interpolate them elsewhere.

    Parameters
    ----------
    evaluate : callable
        Takes (n,) int64 row-major positions, returns (C, n) float32 logits.
    spans : sequence of slice
        Channels of each group (instances, background); the label is the group of the largest logit.
    size : tuple of int
        (h, w) of the map, each at least 2.
    clicks_yx : Tensor
        (N, 2) clicks in pixels of the map.

    Returns
    -------
    Tensor
        (C, h, w) float32.
    """
    height, width = size
    values: Tensor | None = None
    known = torch.zeros(height * width, dtype=torch.bool)

    def fill(wanted: Tensor) -> Tensor:
        nonlocal values
        index = (wanted.flatten() & ~known).nonzero()[:, 0]
        found = evaluate(index)
        if values is None:
            values = found.new_zeros(len(found), height * width)
        values[:, index] = found
        known[index] = True
        return values.view(-1, height, width)

    axes = _axis(height, _STEPS[0]), _axis(width, _STEPS[0])
    current = _pick(fill(_grid(axes, size)), axes)
    for level, (doubt, radius) in enumerate(zip(_DOUBT, _CLICK_RADII, strict=True)):
        cells = _undecided(fuse_spans(current, spans), doubt)
        if level == 0:
            cells = _dilated(cells)
        pixels = _touched(cells, axes)
        _surround(pixels, clicks_yx, radius)
        last = level + 1 == len(_STEPS)
        finer = [_axis(side, 1 if last else _STEPS[level + 1]) for side in size]
        full = fill(pixels & _grid(finer, size))
        down, across = (_interpolation(a, b) for a, b in zip(axes, finer, strict=True))
        current = torch.where(
            _pick(known.view(size), finer), _pick(full, finer), down @ current @ across.T
        )
        axes = finer[0], finer[1]
    return current


def _axis(side: int, step: int) -> Tensor:
    """Every `step`-th position and the last one."""
    positions = torch.arange(0, side, step)
    return positions if positions[-1] == side - 1 else F.pad(positions, (0, 1), value=side - 1)


def _grid(axes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    grid = torch.zeros(size, dtype=torch.bool)
    grid[axes[0][:, None], axes[1]] = True
    return grid


def _pick(values: Tensor, axes: Sequence[Tensor]) -> Tensor:
    return values.index_select(-2, axes[0]).index_select(-1, axes[1])


def _undecided(groups: Tensor, doubt: float) -> Tensor:
    """Cells, each between four grid points, that may hold several labels."""
    best = groups.topk(2, dim=0)
    corners = torch.stack([best.indices[0].float(), best.values[0] - best.values[1]])
    highest = F.max_pool2d(corners, 2, 1)
    lowest = -F.max_pool2d(-corners, 2, 1)
    varied = highest - lowest
    return (varied[0] > 0) | (lowest[1] < doubt * varied[1])


def _dilated(cells: Tensor) -> Tensor:
    return F.max_pool2d(cells[None].float(), 3, 1, 1)[0] > 0


def _touched(cells: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """(h, w) bool: pixels within or on the edge of the given cells."""
    down, across = (axis.diff() for axis in axes)
    inside = cells.repeat_interleave(down, 0).repeat_interleave(across, 1)
    return F.max_pool2d(F.pad(inside[None].float(), (1, 1, 1, 1)), 2, 1)[0] > 0


def _surround(pixels: Tensor, clicks_yx: Tensor, radius: int) -> None:
    """Set the pixels within `radius` rows and columns of each click."""
    for y, x in clicks_yx.round().long().clamp(min=0).tolist():
        rows = slice(max(0, y - radius), y + radius + 1)
        pixels[rows, max(0, x - radius) : x + radius + 1] = True


def _interpolation(known: Tensor, wanted: Tensor) -> Tensor:
    """Matrix of linear interpolation from sorted positions to others between them."""
    upper = torch.searchsorted(known, wanted, right=True).clamp(1, len(known) - 1)
    low, high = known[upper - 1], known[upper]
    share = (wanted - low) / (high - low)
    matrix = torch.zeros(len(wanted), len(known))
    rows = torch.arange(len(wanted))
    matrix[rows, upper - 1] = 1 - share
    matrix[rows, upper] += share
    return matrix
