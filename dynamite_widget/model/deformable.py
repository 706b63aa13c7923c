"""Multi-scale deformable attention in plain PyTorch, without a compiled operator.

Two ways to compute it: `grid_sample` per level, for accelerators and gradients; rows of a table
added up by weight, which is several times faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["deformable_attention", "deformable_attention_at"]

# Queries; so few that PyTorch does not share single steps among threads, which would cost more than
# it gains as soon as something else (a browser) wants a core, too.
_CHUNK = 256


def deformable_attention(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Gather every level's map at sampled points and add the samples up by weight.

    Parameters
    ----------
    value : Tensor of shape (B, S, heads, width), float
        Tokens of all levels, one level after the other, row-major; ``S = sum(h * w)``.
    shapes : sequence of (h, w)
        Sizes of the levels in cells.
    locations : Tensor of shape (B, Q, heads, levels, points, 2), float
        Sampling points (x, y), 0..1 over the map (0 is its left or upper edge).
    weights : Tensor of shape (B, Q, heads, levels, points), float
        Attention weights, usually summing to 1 per query and head.

    Returns
    -------
    Tensor of shape (B, Q, heads * width)
        Samples are bilinear between cell centres, zero outside the map.
    """
    if not _by_rows(value, locations, weights):
        return _sample_maps(value, shapes, locations, weights)
    # The same order of operations as in grid_sample, so that both ways round alike.
    half = locations.new_tensor([(width, height) for height, width in shapes]) / 2
    cells = (2 * locations - 1 + 1) * half[:, None] - 0.5
    return _gather_rows(value, shapes, cells, weights)


def deformable_attention_at(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    weights: Tensor,
) -> Tensor:
    """`deformable_attention` at cells `offsets` away from one reference point per query.

    Parameters
    ----------
    value, shapes, weights
        As there.
    reference : Tensor of shape (Q, 2), float
        (x, y), 0..1 over every map.
    offsets : Tensor of shape (B, Q, heads, levels, points, 2), float
        In cells of each level.
    """
    sizes = offsets.new_tensor([(width, height) for height, width in shapes])
    if not _by_rows(value, offsets, weights):
        locations = reference[:, None, None, None] + offsets / sizes[:, None]
        return _sample_maps(value, shapes, locations, weights)
    centres = reference[:, None] * sizes - 0.5  # (Q, levels, 2)
    return _gather_rows(value, shapes, offsets, weights, centres[:, None, :, None])


def _by_rows(*inputs: Tensor) -> bool:
    needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    return inputs[0].device.type == "cpu" and not needs_gradient


def _sample_maps(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """`deformable_attention` by one `grid_sample` per level: for accelerators and gradients."""
    batch, _, heads, width = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    per_head = value.permute(0, 2, 3, 1).flatten(0, 1)
    sampled = []
    start = 0
    for (height, columns), grid in zip(shapes, grids, strict=True):
        level = per_head[:, :, start : start + height * columns]
        start += height * columns
        sampled.append(
            F.grid_sample(
                level.reshape(batch * heads, width, height, columns),
                grid,
                mode="bilinear",
                padding_mode="zeros",
                align_corners=False,
            )
        )
    samples = torch.stack(sampled, dim=3)  # (B * heads, width, Q, levels, points)
    factors = weights.permute(0, 2, 1, 3, 4).reshape(batch * heads, 1, queries, -1, points)
    summed = (samples * factors).sum((3, 4))
    return summed.view(batch, heads * width, queries).transpose(1, 2)


def _gather_rows(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    cells: Tensor,
    weights: Tensor,
    centres: Tensor | None = None,
) -> Tensor:
    """`deformable_attention` as a weighted sum of table rows.

    Every query and head adds up ``levels * points * 4`` rows of one table (the four cells around
    each point), which is what `embedding_bag` does without storing the samples. Chunks of queries
    keep the index arrays within the cache.

    Parameters
    ----------
    cells : Tensor of shape (B, Q, heads, levels, points, 2)
        Points (x, y) in cells, 0 at the centre of the first.
    centres : Tensor of shape (Q, 1, levels, 1, 2), optional
        To be added to them.
    """
    batch, total, heads, width = value.shape
    queries, points = cells.shape[1], cells.shape[4]
    table = value.reshape(batch * total * heads, width)
    # Everything below is laid out as (query, head * level * point): long rows are fast.
    levels = torch.tensor([(w, h, w * heads) for h, w in shapes], dtype=torch.float32)
    columns, lines, step = levels.repeat_interleave(points, 0).repeat(heads, 1).T.contiguous()
    starts = torch.tensor([0, *(h * w for h, w in shapes[:-1])], dtype=torch.int32).cumsum(0)
    first = (starts.repeat_interleave(points) * heads + torch.arange(heads)[:, None]).int()
    weights = weights.reshape(batch, queries, -1)
    outputs = []
    for picture in range(batch):
        base = first + picture * total * heads
        for start in range(0, queries, _CHUNK):
            part = slice(start, start + _CHUNK)
            position = cells[picture, part]
            if centres is not None:
                position = position + centres[part]
            position = position.flatten(1, 3)
            x, share_x = _neighbours(position[..., 0].contiguous(), columns)
            y, share_y = _neighbours(position[..., 1].contiguous(), lines)
            count = len(position)
            shape = (count, heads, 4, len(shapes) * points)
            rows = torch.empty(shape, dtype=torch.int32)
            shares = torch.empty(shape, dtype=table.dtype)
            for j in range(2):
                # In int32, as float32 does not hold large row numbers exactly.
                line = (y[j] * step).int().view(count, heads, -1) + base
                amount = share_y[j].mul_(weights[picture, part])
                for i in range(2):
                    torch.add(line, (x[i] * heads).int().view_as(line), out=rows[:, :, 2 * j + i])
                    shares[:, :, 2 * j + i] = (amount * share_x[i]).view_as(line)
            bags = count * heads
            summed = F.embedding_bag(
                rows.view(bags, -1), table, per_sample_weights=shares.view(bags, -1), mode="sum"
            )
            outputs.append(summed.view(count, heads * width))
    return torch.cat(outputs).view(batch, queries, heads * width)


def _neighbours(position: Tensor, size: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Find the two cells around positions along an axis, and their bilinear shares.

    Cells are clamped into 0..size - 1; those outside have share 0.
    """
    lower = position.floor()
    above = position - lower
    cells, shares = [], []
    for cell, share in ((lower, 1 - above), (lower + 1, above)):
        inside = torch.minimum(cell.clamp(min=0), size - 1)
        cells.append(inside)
        shares.append(share.mul_(inside == cell))
    return cells, shares
