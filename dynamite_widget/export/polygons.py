"""Masks as polygons, through OpenCV, and back.

Two conventions exist, and each reader expects one of them:

- *edges*: vertices on the corners between pixels, the pixel (0, 0) covers 0..1. COCO, GeoJSON.
- *centres*: vertices on pixel centres as `cv2.findContours` gives them; filled with
  `cv2.fillPoly`, border included. YOLO, LabelMe, CVAT, Label Studio.

Both are exact without tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from . import coco_rle

Ring = NDArray[np.number[Any]]


@dataclass(frozen=True)
class Part:
    """A connected part: (N, 2) x, y of its outline, and of each hole's."""

    outer: Ring
    holes: tuple[Ring, ...]


def edge_parts(mask: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> list[Part]:
    """Outline a mask along the edges of its pixels.

    Parameters
    ----------
    mask : (h, w) bool array
        Cut to a box whose corner is pixel (x0, y0) of the picture.

    Returns
    -------
    list of Part
        One per 4-connected part; rings are simple, so that the polygons are valid.
    """
    count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    parts = []
    for number in range(1, count):
        part = regions == number
        ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        top, left = int(ys[0]), int(xs[0])
        part = part[top : ys[-1] + 1, left : xs[-1] + 1]
        # In a picture of twice the size, a left or top border lies on even, a right or bottom
        # border on odd coordinates, so that halving and rounding up hits the edge of the pixel.
        double = np.repeat(np.repeat(part.astype(np.uint8), 2, axis=0), 2, axis=1)
        outer, holes = _contours(double)
        rings = [_corners((ring + 1) // 2 + (x0 + left, y0 + top)) for ring in (*outer, *holes)]
        parts.append(Part(rings[0], tuple(rings[1:])))
    return parts


def centre_parts(mask: NDArray[np.bool_], x0: int = 0, y0: int = 0) -> list[Part]:
    """Outline a mask along the centres of its border pixels, one part per 8-connected region."""
    count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    parts = []
    for number in range(1, count):
        outer, holes = _contours((regions == number).astype(np.uint8))
        shifted = [ring + np.asarray((x0, y0)) for ring in (*outer, *holes)]
        parts.append(Part(shifted[0], tuple(shifted[1:])))
    return parts


def simplify(ring: Ring, tolerance: float) -> Ring:
    """Drop vertices so that the ring moves by at most `tolerance` pixels (Douglas-Peucker)."""
    if tolerance <= 0 or len(ring) < 4:
        return ring
    points = cv2.approxPolyDP(ring.astype(np.int32).reshape(-1, 1, 2), tolerance, True)
    return np.asarray(points, np.int64).reshape(-1, 2)


def one_ring(rings: Sequence[Ring]) -> Ring:
    """Join rings by bridges of no width, each where two rings are nearest.

    For formats that know one polygon per object: filled by the even-odd rule, holes stay holes;
    between separate parts a line of one pixel appears.

    Returns
    -------
    (N, 2) int64 array
    """
    joined = np.asarray(rings[0])
    rest = list(rings[1:])
    # Distance of each remaining ring to what is joined: (squared distance, index there, here).
    nearest = [_nearest(joined, ring) for ring in rest]
    while rest:
        pick = min(range(len(rest)), key=lambda k: nearest[k][0])
        ring, (_, here, there) = rest.pop(pick), nearest.pop(pick)
        turned = np.concatenate((ring[there:], ring[: there + 1]))
        joined = np.concatenate((joined[: here + 1], turned, joined[here:]))
        for k, other in enumerate(rest):
            distance, at, to = _nearest(ring, other)
            if distance < nearest[k][0]:
                nearest[k] = (distance, here + 1 + (at - there) % len(ring), to)
            elif nearest[k][1] > here:
                old = nearest[k]
                nearest[k] = (old[0], old[1] + len(turned) + 1, old[2])
    return joined


def fill_centres(rings: Sequence[NDArray[np.number]], height: int, width: int) -> NDArray[np.bool_]:
    """Fill rings of the *centres* convention by the even-odd rule, borders included."""
    canvas = np.zeros((height, width), np.uint8)
    polygons = [np.rint(np.asarray(r, float)).astype(np.int32).reshape(-1, 1, 2) for r in rings]
    if polygons:
        cv2.fillPoly(canvas, polygons, 1)
    return canvas.astype(bool)


def fill_edges(parts: Sequence[Part], height: int, width: int) -> NDArray[np.bool_]:
    """Fill parts of the *edges* convention (as COCO's tools do)."""
    out = np.zeros((height, width), bool)
    for part in parts:
        outer, *holes = coco_rle.fill((part.outer, *part.holes), height, width)
        for hole in holes:
            outer &= ~hole
        out |= outer
    return out


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 if both are empty."""
    union = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / union if union else 1.0


def _contours(mask: NDArray[np.uint8]) -> tuple[list[Ring], list[Ring]]:
    """Return the outlines of the one region of a mask, and of its holes."""
    found, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer, holes = list[Ring](), list[Ring]()
    for ring, (_, _, _, parent) in zip(found, np.asarray(hierarchy).reshape(-1, 4), strict=True):
        points = np.asarray(ring, np.int64).reshape(-1, 2)
        (outer if parent < 0 else holes).append(points)
    return outer, holes


def _corners(ring: Ring) -> Ring:
    """Drop repeated and collinear vertices of a ring of horizontal and vertical lines."""
    ring = ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return ring[cross != 0]


def _nearest(first: Ring, second: Ring) -> tuple[int, int, int]:
    """Return the squared distance of two rings' nearest vertices and their indices."""
    delta = first[:, None, :] - second[None, :, :]
    squared = (delta**2).sum(axis=2)
    flat = int(squared.argmin())
    i, j = divmod(flat, squared.shape[1])
    return int(squared[i, j]), i, j
