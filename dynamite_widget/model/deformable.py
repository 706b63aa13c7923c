"""Multi-scale deformable attention in plain PyTorch, without a compiled operator.

Two ways to compute it: `grid_sample` per level, for accelerators and gradients; rows of a table
added up by weight, which is several times faster on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .transfers import upload

__all__ = ["LevelMaps", "deformable_attention", "deformable_attention_at"]

# Queries whose indices fit into the cache; so few that PyTorch does not share single steps among
# threads, either, which would cost more than it gains.
_CHUNK = 256


@dataclass(frozen=True)
class LevelMaps:
    """Maps to sample from, prepared once for all queries; made by `of`.

    Parameters
    ----------
    value, shapes
        As of `deformable_attention`.
    table : (Tensor, Tensor) or None
        See `_bordered`; where samples are rows of a table.
    """

    value: Tensor
    shapes: Sequence[tuple[int, int]]
    table: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, value: Tensor, shapes: Sequence[tuple[int, int]]) -> LevelMaps:
        """Prepare what the device needs."""
        return cls(value, shapes, _bordered(value, shapes) if _by_rows(value) else None)


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
    maps = LevelMaps.of(value, shapes)
    if maps.table is None or not _by_rows(locations, weights):
        return _sample_maps(value, shapes, locations, weights)
    # The same order of operations as in grid_sample, so that both ways round alike.
    half = locations.new_tensor([(width, height) for height, width in shapes]) / 2
    cells = (2 * locations - 1 + 1) * half[:, None] - 0.5
    return _gather_rows(maps.table, shapes, cells, weights)


def deformable_attention_at(
    maps: LevelMaps, reference: Tensor, offsets: Tensor, weights: Tensor
) -> Tensor:
    """`deformable_attention` at cells `offsets` away from one reference point per query.

    Parameters
    ----------
    maps : LevelMaps
        Of all levels.
    weights
        As there.
    reference : Tensor of shape (Q, 2), float
        (x, y), 0..1 over every map.
    offsets : Tensor of shape (B, Q, heads, levels, points, 2), float
        In cells of each level.
    """
    shapes = maps.shapes
    sizes = torch.tensor([(width, height) for height, width in shapes], dtype=offsets.dtype)
    sizes = upload(sizes, offsets.device)
    if maps.table is None or not _by_rows(offsets, weights):
        locations = reference[:, None, None, None] + offsets / sizes[:, None]
        return _sample_maps(maps.value, shapes, locations, weights)
    centres = reference[:, None] * sizes - 0.5  # (Q, levels, 2)
    return _gather_rows(maps.table, shapes, offsets, weights, centres[:, None, :, None])


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
    bordered: tuple[Tensor, Tensor],
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
    bordered : (Tensor, Tensor)
        See `_bordered`.
    cells : Tensor of shape (B, Q, heads, levels, points, 2)
        Points (x, y) in cells, 0 at the centre of the first.
    centres : Tensor of shape (Q, 1, levels, 1, 2), optional
        To be added to them.
    """
    table, starts = bordered
    batch, queries, heads, _, points, _ = cells.shape
    width = table.shape[1]
    # Everything below is laid out as (query, head * level * point): long rows are fast.
    levels = torch.tensor([(w, h, w + 2) for h, w in shapes], dtype=torch.float32)
    columns, lines, strides = levels.repeat_interleave(points, 0).repeat(heads, 1).T.contiguous()
    step = strides.int() * heads
    first = starts.repeat_interleave(points) * heads + torch.arange(heads)[:, None]
    first = first.flatten().int()
    per_picture = len(table) // batch
    weights = weights.reshape(batch, queries, -1)
    outputs = []
    for picture in range(batch):
        base = first + picture * per_picture
        for start in range(0, queries, _CHUNK):
            part = slice(start, start + _CHUNK)
            position = cells[picture, part]
            if centres is not None:
                position = position + centres[part]
            position = position.flatten(1, 3)
            # Beyond the border there is nothing but the border's zeros.
            x = torch.minimum(position[..., 0], columns).clamp_(min=-1)
            y = torch.minimum(position[..., 1], lines).clamp_(min=-1)
            column, line = x.floor(), y.floor()
            right, below = x.sub_(column), y.sub_(line)
            count = len(position)
            shape = (count, heads, 4, len(shapes) * points)
            rows = torch.empty(shape, dtype=torch.int32)
            shares = torch.empty(shape, dtype=table.dtype)
            by_corner = rows.permute(2, 0, 1, 3), shares.permute(2, 0, 1, 3)
            # In int32, as float32 does not hold large row numbers exactly.
            corner = line.int().mul_(step).add_(column.int(), alpha=heads).add_(base)
            own = weights[picture, part]
            lower = own * below
            upper = own - lower
            upper_right, lower_right = upper * right, lower * right
            for j, (row, share) in enumerate(
                (
                    (corner, upper.sub_(upper_right)),
                    (corner + heads, upper_right),
                    (corner + step, lower.sub_(lower_right)),
                    (corner + (step + heads), lower_right),
                )
            ):
                by_corner[0][j].copy_(row.view(count, heads, -1))
                by_corner[1][j].copy_(share.view(count, heads, -1))
            bags = count * heads
            summed = F.embedding_bag(
                rows.view(bags, -1), table, per_sample_weights=shares.view(bags, -1), mode="sum"
            )
            outputs.append(summed.view(count, heads * width))
    return torch.cat(outputs).view(batch, queries, heads * width)


def _bordered(value: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Give every level's map a border of zeros, so that points need not be checked.

    Returns
    -------
    table : Tensor of shape (rows, width)
        A row per picture, cell and head. The lower border is wider, as the cells below and to the
        right of the last one that a point may lie in are looked up, too (with share 0).
    starts : Tensor of shape (levels,), int64
        Cell (0, 0) of each level in a picture.
    """
    batch, _, heads, width = value.shape
    maps, starts, first = [], [], 0
    for level, (height, columns) in zip(
        value.flatten(2).split([h * w for h, w in shapes], dim=1), shapes, strict=True
    ):
        level = level.unflatten(1, (height, columns))
        maps.append(F.pad(level, (0, 0, 1, 1, 1, 3)).flatten(1, 2))
        starts.append(first + columns + 2 + 1)
        first += maps[-1].shape[1]
    return torch.cat(maps, dim=1).view(batch * first * heads, width), torch.tensor(starts)
