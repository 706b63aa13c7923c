"""What a person fixed or painted, drawn onto label maps of any size.

Fixed masks (locked and imported instances) and brush strokes of a session; the order in which they
apply is documented in `Segmentation.with_edits`. Numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .rle import RLE

if TYPE_CHECKING:
    from .session_state import SessionState, Stroke

LabelMap = NDArray[np.int32]


@dataclass(frozen=True)
class Edits:
    """The edits of one session state; see `from_state`.

    Attributes
    ----------
    height, width : int
        Size of the original picture in pixels.
    instances : tuple of int
        Ids that exist; labels of others become background.
    fixed : dict from int to RLE
        Fixed masks in the order in which they are drawn: a later one wins.
    strokes : tuple of Stroke
        Strokes of instances that are not locked, by time.
    locked : frozenset of int
        Instances whose pixels strokes do not reach.
    """

    height: int
    width: int
    instances: tuple[int, ...]
    fixed: dict[int, RLE]
    strokes: tuple[Stroke, ...]
    locked: frozenset[int]

    @classmethod
    def from_state(cls, state: SessionState) -> Edits:
        """Collect the fixed masks and strokes that count."""
        locked = frozenset(i.id for i in state.instances if i.locked)
        known = {i.id for i in state.instances}
        fixed = {i.id: i.fixed_mask for i in state.instances if i.fixed_mask is not None}
        # Locked ones are drawn last, and within each kind the lowest id last.
        order = sorted(fixed, key=lambda i: (i in locked, -i))
        strokes = sorted(
            (s for s in state.strokes if s.instance in known and s.instance not in locked),
            key=lambda s: s.t,
        )
        return cls(
            state.height,
            state.width,
            tuple(sorted(known)),
            {i: fixed[i] for i in order},
            tuple(strokes),
            locked,
        )

    @property
    def painted(self) -> tuple[int, ...]:
        """Instances that a brush added pixels to."""
        return tuple(sorted({s.instance for s in self.strokes if s.mode == "add"}))

    def apply(self, labels: LabelMap) -> LabelMap:
        """Return a label map with the edits drawn in; the one given is left alone.

        Parameters
        ----------
        labels : (h, w) int32 array
            The whole picture at any size.

        Returns
        -------
        (h, w) int32 array
        """
        return self._draw(np.array(labels, dtype=np.int32, order="C"), None)

    def decided(self, labels: LabelMap) -> NDArray[np.bool_]:
        """Return the (h, w) bool map of pixels that a fixed mask or a stroke decided."""
        decided = np.zeros(labels.shape, bool)
        self._draw(np.array(labels, dtype=np.int32, order="C"), decided)
        return decided

    def _draw(self, labels: LabelMap, decided: NDArray[np.bool_] | None) -> LabelMap:
        self._clear(labels, decided)
        for instance, rle in self.fixed.items():
            for rows, inside in _fixed_bands(rle, labels.shape[0], labels.shape[1]):
                labels[rows][inside] = instance
                if decided is not None:
                    decided[rows] |= inside
        for stroke in self.strokes:
            self._draw_stroke(labels, decided, stroke)
        return labels

    def _clear(self, labels: LabelMap, decided: NDArray[np.bool_] | None) -> None:
        """Remove labels of deleted instances, and what the network gave to fixed ones."""
        top = int(labels.max(initial=0))
        keep = np.zeros(top + 1, bool)
        keep[0] = True
        for instance in self.instances:
            if instance <= top and instance not in self.fixed:
                keep[instance] = True
        if keep.all():
            return
        step = max(1, 2**20 // labels.shape[1])
        for start in range(0, labels.shape[0], step):
            band = labels[start : start + step]
            gone = ~keep[band]
            if decided is not None:
                decided[start : start + step] |= gone
            band[gone] = 0

    def _draw_stroke(
        self, labels: LabelMap, decided: NDArray[np.bool_] | None, stroke: Stroke
    ) -> None:
        drawn = stroke_mask(stroke, self.height, self.width, labels.shape[0], labels.shape[1])
        if drawn is None:
            return
        (rows, columns), inside = drawn
        part = labels[rows, columns]
        if stroke.mode == "erase":
            inside = inside & (part == stroke.instance)
        elif self.locked:
            inside = inside & ~np.isin(part, list(self.locked))
        part[inside] = stroke.instance if stroke.mode == "add" else 0
        if decided is not None:
            decided[rows, columns] |= inside


def stroke_mask(
    stroke: Stroke, full_height: int, full_width: int, height: int, width: int
) -> tuple[tuple[slice, slice], NDArray[np.bool_]] | None:
    """Rasterise a stroke: pixels whose centre is within the radius of the polyline.

    Parameters
    ----------
    stroke : Stroke
        Points and radius in pixels of the original picture.
    full_height, full_width : int
        Size of the original picture.
    height, width : int
        Size of the map to draw on. On smaller maps thin strokes are drawn one pixel wide.

    Returns
    -------
    tuple or None
        ((rows, columns), inside): two slices and the bool mask of that part; None if no pixel of
        the map is touched.
    """
    y_step, x_step = full_height / height, full_width / width
    radius = max(float(stroke.radius), 0.5 * max(y_step, x_step, 1.0))
    points = np.asarray(stroke.points, np.float64).reshape(-1, 2)
    # Positions of the map's pixel centres in the picture: (j + 0.5) * step - 0.5.
    low = np.ceil((points.min(axis=0) - radius + 0.5) / (x_step, y_step) - 0.5)
    high = np.floor((points.max(axis=0) + radius + 0.5) / (x_step, y_step) - 0.5) + 1
    x0, y0 = (int(v) for v in np.clip(low, 0, (width, height)))
    x1, y1 = (int(v) for v in np.clip(high, 0, (width, height)))
    if x0 >= x1 or y0 >= y1:
        return None
    inside = np.zeros((y1 - y0, x1 - x0), bool)
    xs = (np.arange(x0, x1) + 0.5) * x_step - 0.5
    ys = (np.arange(y0, y1) + 0.5) * y_step - 0.5
    limit = radius * radius * (1 + 1e-12)
    ends = points[1:] if len(points) > 1 else points
    for (ax, ay), (bx, by) in zip(points[: len(ends)], ends, strict=True):
        # Only the box of this segment is looked at: long strokes have small segments.
        i0, i1 = np.searchsorted(ys, (min(ay, by) - radius - 1e-9, max(ay, by) + radius + 1e-9))
        j0, j1 = np.searchsorted(xs, (min(ax, bx) - radius - 1e-9, max(ax, bx) + radius + 1e-9))
        dx, dy = xs[None, j0:j1] - ax, ys[i0:i1, None] - ay
        length = (bx - ax) ** 2 + (by - ay) ** 2
        if length > 0:
            along = np.clip((dx * (bx - ax) + dy * (by - ay)) / length, 0.0, 1.0)
            distance = (dx - along * (bx - ax)) ** 2 + (dy - along * (by - ay)) ** 2
        else:
            distance = dx**2 + dy**2
        inside[i0:i1, j0:j1] |= distance <= limit
    return (slice(y0, y1), slice(x0, x1)), inside


def _fixed_bands(rle: RLE, height: int, width: int) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Draw a mask at another size by nearest neighbour, in row bands of its own size."""
    # A pixel is inside if an odd number of runs ends at or before it.
    toggles = np.cumsum(rle.lengths.astype(np.int64))
    if toggles.size < 2:
        return
    # The picture's rows and columns that the map's pixels show.
    rows = (2 * np.arange(height, dtype=np.int64) + 1) * rle.height // (2 * height)
    columns = (2 * np.arange(width, dtype=np.int64) + 1) * rle.width // (2 * width)
    last_inside = toggles[-1] - 1 if toggles.size % 2 == 0 else toggles[-2] - 1
    first = int(np.searchsorted(rows, toggles[0] // rle.width))
    last = int(np.searchsorted(rows, last_inside // rle.width, side="right"))
    step = max(1, 2**20 // width)
    for low in range(first, last, step):
        high = min(last, low + step)
        begins = rows[low:high] * rle.width
        before = np.searchsorted(toggles, begins, side="right")
        count = np.searchsorted(toggles, begins + rle.width) - before
        row = np.repeat(np.arange(high - low), count)
        within = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
        places = toggles[np.repeat(before, count) + within] - begins[row]
        flips = np.zeros((high - low, width + 1), np.uint8)
        flips[:, 0] = before % 2
        np.add.at(flips, (row, np.searchsorted(columns, places)), np.uint8(1))
        np.bitwise_and(np.cumsum(flips, axis=1, dtype=np.uint8, out=flips), 1, out=flips)
        yield slice(low, high), flips[:, :width].astype(bool)
