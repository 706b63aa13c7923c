"""From mask logits to label map and margin at any size, with bounded memory.

Section 5 of the architecture: logits at stride 4 go bilinearly to the padded network image, are
cropped to the picture, go bilinearly to the target size, and only then compete: maximum over the
channels of an instance, arg max over instances and background. Both resizings are linear and
separable, so per axis they are one sparse matrix. Two exact ways to evaluate it:

- everywhere, in row bands, on the device of the logits (used on GPUs);
- in tiles, leaving out channels that cannot win there (used on CPUs): an interpolated value lies
  between the smallest and the largest of the logits it comes from. Most tiles have one possible
  winner and need no interpolation at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .ranking import two_best
from .transfers import download, id_dtype, upload

LabelMap = NDArray[np.int32]

STRIDE = 4
#: Scratch memory for interpolated logits, in bytes.
WORKING_SET_BYTES = 48 * 2**20
#: Side of a tile in stride-4 pixels.
TILE = 8
# Two bilinear steps read at most this many neighbouring stride-4 pixels per axis.
_TAPS = 3


@dataclass(frozen=True)
class MaskLogits:
    """Final mask logits of one picture and what their channels mean.

    Parameters
    ----------
    logits : Tensor
        (C, Hp / 4, Wp / 4).
    channel_instance : tuple of int
        Instance of each channel, 0 = background; ids may repeat, -1 = to be ignored.
    network_size : tuple of int
        (h', w'), the part of the network image that holds the picture.
    """

    logits: Tensor
    channel_instance: tuple[int, ...]
    network_size: tuple[int, int]

    def __post_init__(self) -> None:
        if self.logits.ndim != 3 or len(self.logits) != len(self.channel_instance):
            raise ValueError(
                f"logits of shape {tuple(self.logits.shape)} do not fit "
                f"{len(self.channel_instance)} channels"
            )
        limits = (self.logits.shape[1] * STRIDE, self.logits.shape[2] * STRIDE)
        if not all(1 <= n <= limit for n, limit in zip(self.network_size, limits, strict=True)):
            raise ValueError(f"network size {self.network_size} exceeds the padded size {limits}")

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.logits.numel() * self.logits.element_size()


class LogitsRenderer:
    """Draws a `Segmentation` from mask logits; safe to use from several threads.

    Parameters
    ----------
    mask_logits : MaskLogits
        Kept as they are, on their device.
    """

    def __init__(self, mask_logits: MaskLogits) -> None:
        owners = mask_logits.channel_instance
        # Objects ascending, background last: the first of equal values wins.
        groups = [*sorted({o for o in owners if o > 0}), *([0] if 0 in owners else [])]
        order = [c for g in groups for c, owner in enumerate(owners) if owner == g]
        if not order:
            raise ValueError("no channel belongs to an instance or to the background")
        with torch.inference_mode():
            logits = mask_logits.logits
            if order != list(range(len(owners))):
                logits = logits[order]
            if logits.dtype != torch.float32:
                logits = logits.float()
            self._logits = logits.contiguous()
        self._groups = np.asarray(groups, np.int32)
        group_of = [groups.index(owners[c]) for c in order]
        self._group_of = np.asarray(group_of)
        self._network_size = mask_logits.network_size

    def label_map(self, height: int, width: int) -> LabelMap:
        """Return the (height, width) int32 label map."""
        if self._logits.device.type == "cpu":
            return self._label_tiles(height, width)
        return self._label_bands(height, width)

    def margin(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the (height, width) float32 margin: best minus second best group, >= 0."""
        if len(self._groups) < 2:
            return np.full((height, width), np.float32(np.finfo(np.float32).max))
        if self._logits.device.type == "cpu":
            return self._margin_tiles(height, width)
        return self._margin_bands(height, width)

    @torch.inference_mode()
    def scores(self) -> Mapping[int, float]:
        """Return per instance the mean of sigmoid(own - best other logit) over its pixels.

        Own pixels are those of the stride-4 map inside the picture; 0 without any.
        """
        rows, columns = (-(-n // STRIDE) for n in self._network_size)
        first, second, index = two_best(self._groups_of(self._logits[:, :rows, :columns]))
        confidence = torch.sigmoid(first - second).double().flatten()
        index = index.flatten().to(torch.int64)
        count = len(self._groups)
        total = torch.zeros(count, dtype=torch.float64, device=index.device)
        # One-hot products, not scatter_add_: that is not deterministic on GPUs.
        pixels = torch.bincount(index, minlength=count).cpu().tolist()
        for g in range(count):
            total[g] = (confidence * (index == g)).sum()
        sums = total.cpu().tolist()
        return {
            int(instance): sums[g] / pixels[g] if pixels[g] else 0.0
            for g, instance in enumerate(self._groups)
            if instance
        }

    def _groups_of(self, values: Tensor) -> Iterator[Tensor]:
        """Maximum over the channels of each group, one (h, w) map after the other."""
        return (values[begin:end].amax(dim=0) for begin, end in _spans(self._group_of))

    # --- everywhere, in row bands ----------------------------------------------------------------

    @torch.inference_mode()
    def _label_bands(self, height: int, width: int) -> LabelMap:
        # Few bytes travel, all at once: ids in their smallest type.
        device, groups = self._logits.device, torch.from_numpy(self._groups)
        ids = upload(groups.to(id_dtype(int(self._groups.max()))), device)
        labels = torch.empty((height, width), dtype=ids.dtype, device=device)
        for rows, _best, _second, index in self._bands(height, width):
            labels[rows] = ids[index.long()]
        return download(labels).astype(np.int32)

    @torch.inference_mode()
    def _margin_bands(self, height: int, width: int) -> NDArray[np.float32]:
        margin = torch.empty((height, width), dtype=torch.float32, device=self._logits.device)
        for rows, best, second, _index in self._bands(height, width):
            torch.sub(best, second, out=margin[rows])
        return download(margin).astype(np.float32)

    @torch.inference_mode()
    def _bands(self, height: int, width: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Yield rows, best and second-best group value and the index of the best group."""
        logits = self._logits
        channels, coarse_height, coarse_width = logits.shape
        device = logits.device
        lines = _taps_on(device, coarse_height, self._network_size[0], height)
        columns = _taps_on(device, coarse_width, self._network_size[1], width)
        # Per row of pixels: interpolated values twice (sum and summand) and a few results.
        step = max(1, WORKING_SET_BYTES // (4 * width * (2 * channels + 6)))
        for start in range(0, height, step):
            part = slice(start, min(height, start + step))
            rows = torch.zeros(
                (channels, part.stop - part.start, coarse_width), device=device, dtype=torch.float32
            )
            for index, weight in lines:
                rows.addcmul_(logits[:, index[part]], weight[part, None])
            values = rows.new_zeros((channels, part.stop - part.start, width))
            for index, weight in columns:
                values.addcmul_(rows[:, :, index], weight)
            yield part, *two_best(self._groups_of(values))

    # --- in tiles ---------------------------------------------------------------------------------

    def _label_tiles(self, height: int, width: int) -> LabelMap:
        labels = np.empty((height, width), np.int32)
        logits = self._logits.numpy()
        plan = _TilePlan(self._logits, self._network_size, height, width)
        # A channel can win a tile only if its maximum reaches the best of the minima.
        possible = plan.highest >= plan.lowest.max(axis=0) - plan.slack
        starts = np.flatnonzero(np.diff(self._group_of, prepend=-1))
        in_group = np.logical_or.reduceat(possible, starts, axis=0)
        lonely = in_group.sum(axis=0) == 1
        winner = self._groups[in_group.argmax(axis=0)]
        for i, j, rows, columns in plan.tiles():
            if lonely[i, j]:
                labels[rows, columns] = winner[i, j]
                continue
            channels = np.flatnonzero(possible[:, i, j])
            for part, values in plan.values(logits, channels, i, j, rows, columns):
                # Channels are sorted by group, so the first of equals is the first group's.
                # A loop, as numpy's argmax along the first axis takes five times as long.
                best, target = values[0].copy(), labels[part, columns]
                target[:] = self._groups[self._group_of[channels[0]]]
                for value, channel in zip(values[1:], channels[1:], strict=True):
                    target[value > best] = self._groups[self._group_of[channel]]
                    np.maximum(best, value, out=best)
        return labels

    def _margin_tiles(self, height: int, width: int) -> NDArray[np.float32]:
        margin = np.empty((height, width), np.float32)
        logits = self._logits.numpy()
        plan = _TilePlan(self._logits, self._network_size, height, width)
        starts = np.flatnonzero(np.diff(self._group_of, prepend=-1))
        # Both the best and the second-best group must be among the channels kept.
        by_group = np.maximum.reduceat(plan.lowest, starts, axis=0)
        needed = plan.highest >= np.partition(by_group, -2, axis=0)[-2] - plan.slack
        for i, j, rows, columns in plan.tiles():
            channels = np.flatnonzero(needed[:, i, j])
            owners = self._group_of[channels]
            for part, values in plan.values(logits, channels, i, j, rows, columns):
                best, second = None, np.float32(-np.inf)
                for begin, end in _spans(owners):
                    group = values[begin:end].max(axis=0)
                    if best is None:
                        best = group
                        continue
                    second = np.maximum(second, np.minimum(best, group))
                    best = np.maximum(best, group)
                margin[part, columns] = best - second
        return margin


class _TilePlan:
    """Tiles of the target map, the stride-4 pixels that each reads, and bounds of each channel."""

    def __init__(
        self, logits: Tensor, network_size: tuple[int, int], height: int, width: int
    ) -> None:
        _, coarse_height, coarse_width = logits.shape
        self.y_cuts, self.y_matrices = _tiled_axis(coarse_height, network_size[0], height)
        self.x_cuts, self.x_matrices = _tiled_axis(coarse_width, network_size[1], width)
        # Replicated border: the window of the last tiles ends at the map's edge.
        side = TILE + _TAPS - 1
        pad_y = (len(self.y_cuts) - 2) * TILE + side - coarse_height
        pad_x = (len(self.x_cuts) - 2) * TILE + side - coarse_width
        with torch.inference_mode():
            padded = torch.nn.functional.pad(
                logits[None], (0, max(0, pad_x), 0, max(0, pad_y)), mode="replicate"
            )
            high = torch.nn.functional.max_pool2d(padded, side, TILE)[0]
            low = -torch.nn.functional.max_pool2d(-padded, side, TILE)[0]
        self.highest: NDArray[np.float32] = high.numpy()
        self.lowest: NDArray[np.float32] = low.numpy()
        # Interpolation rounds; a channel this close to the bound is kept.
        self.slack = 1e-5 * max(1.0, float(logits.abs().max()))

    def tiles(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield tile indices and the rows and columns of the target map."""
        for i, (y0, y1) in enumerate(itertools.pairwise(self.y_cuts)):
            for j, (x0, x1) in enumerate(itertools.pairwise(self.x_cuts)):
                if y1 > y0 and x1 > x0:
                    yield i, j, slice(y0, y1), slice(x0, x1)

    def values(
        self,
        logits: NDArray[np.float32],
        channels: NDArray[np.intp],
        i: int,
        j: int,
        rows: slice,
        columns: slice,
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield row parts of a tile and the (channels, rows, columns) logits in them."""
        down, across = self.y_matrices[i], self.x_matrices[j]
        y, x = i * TILE, j * TILE
        source = logits[channels, y : y + down.shape[1], x : x + across.shape[1]]
        wide = source @ across.T
        step = max(1, WORKING_SET_BYTES // (8 * len(channels) * len(across)))
        for start in range(rows.start, rows.stop, step):
            part = slice(start, min(rows.stop, start + step))
            yield part, down[part.start - rows.start : part.stop - rows.start] @ wide


def axis_taps(
    coarse: int, network: int, target: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Compose the two resizings of one axis: ×4 bilinear, crop, bilinear to the target.

    Parameters
    ----------
    coarse : int
        Length of the logits at stride 4.
    network : int
        Length of the picture within the network image, <= 4 * coarse.
    target : int
        Length wanted.

    Returns
    -------
    first : (target,) int64 array
        First stride-4 index that each target pixel reads.
    weights : (target, 3) float32 array
        Weights of the indices first, first + 1, first + 2 (0 for those beyond the end).
    """
    low, high, share = _bilinear(np.arange(target), network, target)
    first, *_ = _bilinear(low, coarse, coarse * STRIDE)
    weights = np.zeros((target, _TAPS), np.float64)
    for position, part in ((low, 1.0 - share), (high, share)):
        below, above, inner = _bilinear(position, coarse, coarse * STRIDE)
        for tap in range(_TAPS):
            weights[:, tap] += part * (1.0 - inner) * (below == first + tap)
            weights[:, tap] += part * inner * (above == first + tap)
    return first, weights.astype(np.float32)


def _bilinear(
    positions: NDArray[np.int64], source: int, target: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Bilinear taps (align_corners=False): lower and upper source index, weight of the upper."""
    place = np.maximum((positions + 0.5) * (source / target) - 0.5, 0.0)
    low = np.minimum(place.astype(np.int64), source - 1)
    return low, np.minimum(low + 1, source - 1), place - low


def _taps_on(
    device: torch.device, coarse: int, network: int, target: int
) -> list[tuple[Tensor, Tensor]]:
    """Per tap of an axis the (target,) indices and weights, on a device."""
    first, weights = axis_taps(coarse, network, target)
    return [
        (
            # Weights beyond the end are 0.
            upload(torch.from_numpy(np.minimum(first + tap, coarse - 1)), device),
            upload(torch.from_numpy(np.ascontiguousarray(weights[:, tap])), device),
        )
        for tap in range(_TAPS)
    ]


@lru_cache(maxsize=16)
def _tiled_axis(
    coarse: int, network: int, target: int
) -> tuple[list[int], list[NDArray[np.float32]]]:
    """Cuts and matrices of the tiles of an axis; a picture's are wanted at every click."""
    first, weights = axis_taps(coarse, network, target)
    cuts = _cuts(first)
    return cuts, _tile_matrices(first, weights, cuts, coarse)


def _cuts(first: NDArray[np.int64]) -> list[int]:
    """Cut the target axis where the first source pixel read enters the next tile."""
    count = int(first[-1]) // TILE + 1
    return [*np.searchsorted(first, np.arange(count) * TILE).tolist(), len(first)]


def _tile_matrices(
    first: NDArray[np.int64], weights: NDArray[np.float32], cuts: list[int], coarse: int
) -> list[NDArray[np.float32]]:
    """Per tile of an axis the dense (target pixels, source pixels) matrix of its taps."""
    matrices = []
    for tile, (start, stop) in enumerate(itertools.pairwise(cuts)):
        matrix = np.zeros((stop - start, TILE + _TAPS - 1), np.float32)
        out = np.arange(stop - start)
        for tap in range(_TAPS):
            matrix[out, first[start:stop] - tile * TILE + tap] = weights[start:stop, tap]
        matrices.append(matrix[:, : coarse - tile * TILE])
    return matrices


def _spans(group_of: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Begin and end of each run of equal groups."""
    bounds = [*np.flatnonzero(np.diff(group_of, prepend=-1)).tolist(), len(group_of)]
    return list(itertools.pairwise(bounds))
