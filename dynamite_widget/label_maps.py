"""Label maps: what draws them, and the masks, areas and boxes that follow from one.

0 = background, k = instance id. Numpy only; the renderer of the network's logits is in
`dynamite_widget.model.render`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LabelMap = NDArray[np.int32]

#: Margin, in logits, where nothing is in doubt: given label maps, and pixels decided by a person.
CERTAIN_MARGIN = 20.0

_BAND_PIXELS = 2**20


class Renderer(Protocol):
    """What a `Segmentation` draws from; must be safe to call from several threads."""

    def label_map(self, height: int, width: int) -> LabelMap:
        """Return the (height, width) int32 label map of the whole picture at this size."""
        ...

    def margin(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the (height, width) float32 top-1 minus top-2 logit at this size."""
        ...

    def scores(self) -> Mapping[int, float]:
        """Return the score 0..1 of each instance that it knows."""
        ...


class ArrayRenderer:
    """A given label map; smaller and larger sizes by nearest neighbour.

    Parameters
    ----------
    labels : (H, W) int32 array
        Not copied.
    scores : mapping from id to float
        Of all instances, 0..1.
    """

    def __init__(self, labels: LabelMap, scores: Mapping[int, float]) -> None:
        self._labels = labels
        self._scores = dict(scores)

    def label_map(self, height: int, width: int) -> LabelMap:
        """Return the labels at the pixels' centres."""
        full_height, full_width = self._labels.shape
        if (height, width) == (full_height, full_width):
            return self._labels
        rows = (2 * np.arange(height) + 1) * full_height // (2 * height)
        columns = (2 * np.arange(width) + 1) * full_width // (2 * width)
        return np.ascontiguousarray(self._labels[rows[:, None], columns])

    def margin(self, height: int, width: int) -> NDArray[np.float32]:
        """Return `CERTAIN_MARGIN` everywhere."""
        return np.full((height, width), CERTAIN_MARGIN, np.float32)

    def scores(self) -> Mapping[int, float]:
        """Return the scores given."""
        return self._scores


class EmptyRenderer:
    """Nothing but background."""

    def label_map(self, height: int, width: int) -> LabelMap:
        """Return zeros."""
        return np.zeros((height, width), np.int32)

    def margin(self, height: int, width: int) -> NDArray[np.float32]:
        """Return `CERTAIN_MARGIN` everywhere."""
        return np.full((height, width), CERTAIN_MARGIN, np.float32)

    def scores(self) -> Mapping[int, float]:
        """Return nothing."""
        return {}


def masks_of(labels: LabelMap, instances: Sequence[int]) -> NDArray[np.bool_]:
    """Return the (N, H, W) bool masks of instances (ascending ids, all labels among them).

    Memory is taken only where an instance has pixels: ``np.zeros`` leaves pages unmapped until they
    are written to, and only True is written.
    """
    height, width = labels.shape
    masks = np.zeros((len(instances), height, width), bool)
    if not len(instances):
        return masks
    flat, size = masks.reshape(-1), height * width
    offset = np.zeros(max(instances) + 1, np.int64)
    offset[list(instances)] = np.arange(len(instances)) * size
    for rows in _bands(height, width):
        band = labels[rows].reshape(-1)
        where = np.flatnonzero(band)
        flat[offset[band[where]] + (where + rows.start * width)] = True
    return masks


def statistics_of(labels: LabelMap, instances: Sequence[int]) -> NDArray[np.int64]:
    """Return (N, 5) int64 area, x0, y0, x1, y1 of instances (ascending ids, all labels among them).

    Ends are exclusive; a row of zeros if an instance is empty. Computed from the runs of equal
    labels in each row: there are few of them.
    """
    height, width = labels.shape
    ids, count = np.asarray(instances, np.int64), len(instances)
    area = np.zeros(count, np.int64)
    x0, y0 = np.full(count, width), np.full(count, height)
    x1, y1 = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for rows in _bands(height, width):
        band = labels[rows]
        begins = np.ones(band.shape, bool)
        np.not_equal(band[:, 1:], band[:, :-1], out=begins[:, 1:])
        starts = np.flatnonzero(begins)
        values = band.reshape(-1)[starts]
        ends = np.append(starts[1:], band.size)
        inside = values > 0
        starts, ends, values = starts[inside], ends[inside], values[inside]
        index = np.searchsorted(ids, values)
        row = starts // width
        np.add.at(area, index, ends - starts)
        np.minimum.at(x0, index, starts - row * width)
        np.maximum.at(x1, index, ends - row * width)
        np.minimum.at(y0, index, row + rows.start)
        np.maximum.at(y1, index, row + rows.start + 1)
    table = np.stack([area, x0, y0, x1, y1], axis=1).astype(np.int64)
    table[area == 0] = 0
    return table


def _bands(height: int, width: int) -> Iterable[slice]:
    """Cut the rows into bands of about a megapixel."""
    step = max(1, _BAND_PIXELS // width)
    for start in range(0, height, step):
        yield slice(start, min(height, start + step))
