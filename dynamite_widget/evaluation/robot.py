"""The robot annotator: where a simulated person clicks next, given ground truth and prediction.

Rules as published (distance-transform maxima, a not-clicked map shared by all objects); a
human-like variant with noise lives here too. Which object is corrected next: see `strategies`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..session import Click

BoolMap = NDArray[np.bool_]
IntMap = NDArray[np.integer]


def distance_to_background(mask: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the Euclidean distance of every true pixel to the nearest false one.

    The mask is surrounded by a frame of one false pixel, so that the border of the picture counts
    as an edge. The whole picture is transformed although the bounding box would do: OpenCV's
    rounding depends on the position, and among equally deep pixels it picks the published click.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    (H, W) float32
        Distances in pixels, 0 outside the mask.
    """
    framed = np.pad(np.asarray(mask, dtype=bool).astype(np.uint8), 1)
    distances = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.ascontiguousarray(distances[1:-1, 1:-1], dtype=np.float32)


class RobotAnnotator:
    """Places clicks on one picture of which the ground truth is known.

    Objects are the values 1 … n of `truth`; by convention they are ordered by descending area (see
    `order_by_area`). The robot owns the not-clicked map and the click counter of its picture, and
    is used for one run only.

    Parameters
    ----------
    truth : (H, W) int
        Ground-truth label map, 0 = background.
    objects : int, optional
        Number of objects n; needed when the last ones are completely hidden. Default: the maximum.
    ignore : (H, W) bool, optional
        Pixels of unknown label: never clicked, excluded from every error map.
    radius_px : float
        Radius of the closed disc around a click in which nothing is clicked again.
    reference : bool
        Reproduce the published code in its degenerate case: when no clickable error pixel is left,
        click pixel (0, 0). Otherwise such a request is answered with None.

    Notes
    -----
    Section 7.1 of the evaluation protocol (paper, section 4). Not thread-safe.
    """

    def __init__(
        self,
        truth: IntMap,
        objects: int | None = None,
        ignore: BoolMap | None = None,
        *,
        radius_px: float = 5.0,
        reference: bool = False,
    ) -> None:
        self.truth = np.asarray(truth)
        if self.truth.ndim != 2:
            raise ValueError(f"truth must be a (H, W) label map, got shape {self.truth.shape}")
        self.objects = int(self.truth.max(initial=0)) if objects is None else int(objects)
        if ignore is not None and ignore.shape != self.truth.shape:
            raise ValueError(f"ignore has shape {ignore.shape}, truth has {self.truth.shape}")
        self.valid: BoolMap | None = None if ignore is None else ~np.asarray(ignore, dtype=bool)
        self.reference = reference
        self.radius_px = float(radius_px)
        self.not_clicked: BoolMap = np.ones(self.truth.shape, dtype=bool)
        self.clicks: list[Click] = []

    def first_clicks(self) -> list[Click]:
        """Place the initial click of every object, in order, and return them.

        In reference mode a hidden object is clicked at (0, 0); otherwise it gets no click.
        """
        placed = []
        for instance in range(1, self.objects + 1):
            distances = distance_to_background(self._usable(self.truth == instance))
            # Initial clicks ignore the not-clicked map: each lies in its own object anyway.
            pixel = self._pick(distances, first=True)
            if pixel is None:
                if not self.reference:
                    continue
                pixel = (0, 0)
            placed.append(self._place(pixel, instance))
        return placed

    def next_click(self, prediction: IntMap, instance: int) -> Click | None:
        """Place a click that corrects `instance`, or return None if no error pixel can be clicked.

        The larger of the deepest missed and the deepest surplus region decides (ties: surplus); the
        click is labelled by the ground truth under it.

        Parameters
        ----------
        prediction : (H, W) int
            Predicted label map.
        instance : int
            The object whose error is to be corrected, 1 … n.
        """
        true = self.truth == instance
        predicted = prediction == instance
        missed = distance_to_background(self._usable(true & ~predicted)) * self.not_clicked
        surplus = distance_to_background(self._usable(~true & predicted)) * self.not_clicked
        return self._correct(missed if missed.max() > surplus.max() else surplus)

    def next_click_anywhere(self, prediction: IntMap) -> Click | None:
        """Place a click on the deepest wrongly labelled region of the whole picture ("max_dt")."""
        wrong = distance_to_background(self._usable(prediction != self.truth))
        return self._correct(wrong * self.not_clicked)

    def _correct(self, distances: NDArray[np.float32]) -> Click | None:
        pixel = self._pick(distances, first=False)
        if pixel is None:
            if not self.reference:
                return None
            pixel = (0, 0)
        return self._place(pixel, int(self.truth[pixel]))

    def _usable(self, mask: BoolMap) -> BoolMap:
        return mask if self.valid is None else mask & self.valid

    def _pick(self, distances: NDArray[np.float32], first: bool) -> tuple[int, int] | None:
        """Return (row, column) of the first maximum in row-major order, None if all is zero."""
        flat = int(distances.argmax())
        if distances.flat[flat] <= 0:
            return None
        row, column = divmod(flat, distances.shape[1])
        return row, column

    def _place(self, pixel: tuple[int, int], instance: int) -> Click:
        row, column = pixel
        click = Click(x=column, y=row, instance=instance, t=len(self.clicks))
        self.clicks.append(click)
        self._close_disc(row, column)
        return click

    def _close_disc(self, row: int, column: int) -> None:
        height, width = self.truth.shape
        reach = math.floor(self.radius_px)
        top, bottom = max(row - reach, 0), min(row + reach + 1, height)
        left, right = max(column - reach, 0), min(column + reach + 1, width)
        y, x = np.ogrid[top:bottom, left:right]
        outside = (y - row) ** 2 + (x - column) ** 2 > self.radius_px**2
        self.not_clicked[top:bottom, left:right] &= outside


class HumanLikeAnnotator(RobotAnnotator):
    """A robot that clicks less perfectly, the way people do.

    The pixel is drawn from a normal distribution around the published position, restricted to the
    region that is to be corrected; now and then not the deepest but the second deepest separate
    error region of the object is taken.

    Parameters
    ----------
    noise : float
        Standard deviation of the offset, as a fraction of the depth (distance-transform maximum) of
        the region. 0 gives the published positions.
    second_error_probability : float
        Probability, in 0 … 1, of correcting the second deepest region where there is one.
    seed : int
        Same seed, picture and predictions: same clicks.
    """

    def __init__(
        self,
        truth: IntMap,
        objects: int | None = None,
        ignore: BoolMap | None = None,
        *,
        radius_px: float = 5.0,
        noise: float = 0.5,
        second_error_probability: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(truth, objects, ignore, radius_px=radius_px)
        if noise < 0 or not 0 <= second_error_probability <= 1:
            raise ValueError(
                "noise must be >= 0 and second_error_probability in 0 … 1; got "
                f"{noise} and {second_error_probability}"
            )
        self.noise = noise
        self.second_error_probability = second_error_probability
        self._random = np.random.default_rng(seed)

    def _pick(self, distances: NDArray[np.float32], first: bool) -> tuple[int, int] | None:
        region = distances > 0
        if not region.any():
            return None
        if not first and self._random.random() < self.second_error_probability:
            distances = _without_deepest_region(distances)
        centre = super()._pick(distances, first)
        if centre is None or self.noise == 0:
            return centre
        row, column = centre
        spread = self.noise * float(distances[row, column])
        for _ in range(16):  # rejection sampling; nearly always one or two draws
            y, x = (round(float(v)) for v in self._random.normal((row, column), spread))
            if 0 <= y < region.shape[0] and 0 <= x < region.shape[1] and region[y, x]:
                return y, x
        return centre


def _without_deepest_region(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distances with the connected region around the maximum set to zero.

    With one region only, the input is returned unchanged.
    """
    count, regions = cv2.connectedComponents((distances > 0).astype(np.uint8), connectivity=8)
    if count <= 2:
        return distances
    deepest = regions.flat[int(distances.argmax())]
    return np.where(regions == deepest, np.float32(0), distances)


def order_by_area(masks: Sequence[NDArray[np.generic]] | NDArray[np.generic]) -> list[int]:
    """Return the indices of the masks by descending area (stable on ties)."""
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    return sorted(range(len(areas)), key=lambda index: -areas[index])


def paint_by_area(
    masks: Sequence[NDArray[np.generic]] | NDArray[np.generic],
) -> tuple[NDArray[np.int32], list[int]]:
    """Resolve overlaps: paint the masks by descending area, so that smaller objects lie on top.

    Parameters
    ----------
    masks : N masks of shape (H, W)
        At least one.

    Returns
    -------
    label_map : (H, W) int32
        0 = background, k = the k-th largest object.
    order : list of int
        ``order[k - 1]`` is the index, in `masks`, of object k. A hidden object keeps its number.
    """
    if len(masks) == 0:
        raise ValueError("at least one mask is needed to know the size of the picture")
    order = order_by_area(masks)
    label_map = np.zeros(np.asarray(masks[0]).shape, np.int32)
    for number, index in enumerate(order, start=1):
        label_map[np.asarray(masks[index], dtype=bool)] = number
    return label_map, order
