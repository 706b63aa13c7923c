"""What can be chosen about an export, and how polygons keep to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ExportError
from .annotation_set import Cutout
from .polygons import Part, Ring, edge_parts, fill_edges, iou, simplify

MIN_POLYGON_IOU = 0.9
"""A simplified polygon that agrees less with its mask is simplified less, down to not at all."""


@dataclass(frozen=True)
class Options:
    """Choices of an export; each format uses those that mean something to it.

    Parameters
    ----------
    polygons : bool
        Polygons in place of masks, in formats that know both (COCO, LabelMe, Label Studio, CVAT).
        What polygons cannot say there (holes, crowds) stays a mask.
    tolerance : float
        By how many pixels a polygon's border may move to save vertices; 0 is exact.
    transform : six numbers, optional
        ``a, b, c, d, e, f`` of GeoJSON coordinates: ``a * column + b * row + c`` and
        ``d * column + e * row + f``; pixels by default. Corners of the picture are (0, 0) and
        (width, height).
    copy_images : bool
        Also copy the pictures, for formats in which training tools look for them (YOLO, VOC).
    overwrite, merge : bool
        See `dynamite_widget.export.export`.
    """

    polygons: bool = False
    tolerance: float = 0.0
    transform: tuple[float, ...] | None = None
    copy_images: bool = False
    overwrite: bool = False
    merge: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1000:
            raise ExportError(f"tolerance must lie in 0..1000 pixels, got {self.tolerance!r:.40}")
        if self.transform is not None:
            values = tuple(float(v) for v in self.transform)
            if len(values) != 6 or not all(math.isfinite(v) for v in values):
                raise ExportError(f"transform is six finite numbers, got {self.transform!r:.80}")
            if values[0] * values[4] == values[1] * values[3]:
                raise ExportError(f"transform {values} maps the picture onto a line")
            object.__setattr__(self, "transform", values)


def simplified_parts(cutout: Cutout, tolerance: float) -> list[Part]:
    """Outline an instance along pixel edges, as simple as the tolerance and the mask allow."""
    exact = edge_parts(cutout.mask)
    chosen = exact
    while tolerance > 0.25:
        candidate = [_simplified(part, tolerance) for part in exact]
        if all(part is not None for part in candidate):
            parts = [part for part in candidate if part is not None]
            filled = fill_edges(parts, *cutout.mask.shape)
            if iou(filled, cutout.mask) >= MIN_POLYGON_IOU:
                chosen = parts
                break
        tolerance /= 2
    shift = np.asarray((cutout.x0, cutout.y0))
    return [Part(part.outer + shift, tuple(hole + shift for hole in part.holes)) for part in chosen]


def _simplified(part: Part, tolerance: float) -> Part | None:
    rings: list[Ring] = [simplify(ring, tolerance) for ring in (part.outer, *part.holes)]
    if any(len(ring) < 3 for ring in rings):
        return None
    return Part(rings[0], tuple(rings[1:]))
