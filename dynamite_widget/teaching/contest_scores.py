"""Scores of a challenge: ground truth in, IoU of matched instances, curves over the clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evaluation.metrics import number_of_clicks, reached
from ..evaluation.robot import paint_by_area
from ..rle import RLE

THRESHOLDS = (0.80, 0.85, 0.90)
"""Mean IoUs whose number of clicks is counted (NoC)."""


@dataclass(frozen=True)
class Curve:
    """How one player did.

    Parameters
    ----------
    name : str
        ``"you"`` or ``"robot"``.
    ious : (clicks + 1, objects) float64 array
        IoU of each object after 0, 1, 2 … clicks.
    """

    name: str
    ious: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """(clicks + 1,) mean IoU over the objects after 0, 1, 2 … clicks."""
        return self.ious.mean(axis=1)

    def noc(self, threshold: float, budget: int) -> tuple[int, bool]:
        """Return the clicks until the mean IoU reached a threshold, and whether it did.

        `budget` where it never did, as in the evaluation.
        """
        after = self.mean[1:].tolist()
        return number_of_clicks(after, threshold, budget), reached(after, threshold, budget)


def read_truth(ground_truth: Any, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return a ground truth as an (H, W) int32 label map with objects 1..n by descending area.

    Raises
    ------
    ValueError
        If it is not of this shape or shows no object.
    """
    if isinstance(ground_truth, (str, Path)):
        from PIL import Image

        with Image.open(ground_truth) as opened:
            ground_truth = np.array(opened)
    if isinstance(ground_truth, (list, tuple)):
        ground_truth = np.stack(
            [m.decode() if isinstance(m, RLE) else np.asarray(m) != 0 for m in ground_truth]
        )
    array: NDArray[Any] = np.asarray(ground_truth)
    if array.shape[-2:] != tuple(shape) or array.ndim not in (2, 3):
        raise ValueError(
            f"the ground truth must be of the picture's size {tuple(shape)} (label map or masks), "
            f"got shape {array.shape}"
        )
    if array.ndim == 2:
        if array.dtype.kind not in "biu":
            raise ValueError(f"a label map holds integers, got dtype {array.dtype}")
        array = np.stack([array == k for k in np.unique(array) if k] or [np.zeros(shape, bool)])
    truth, _ = paint_by_area(list(array[array.any(axis=(1, 2))]) or [np.zeros(shape, bool)])
    visible = [k for k in np.unique(truth).tolist() if k]
    if not visible:
        raise ValueError("the ground truth shows no object")
    table = np.zeros(int(truth.max()) + 1, np.int32)
    table[visible] = np.arange(1, len(visible) + 1)
    return table[truth]


def matched_ious(
    truth: NDArray[np.integer[Any]], labels: ArrayLike, objects: int
) -> dict[int, float]:
    """Return the IoU of every object 1..n with the instance that is matched with it.

    Each instance goes to one object at most, so that the sum of the IoUs is largest.
    """
    from scipy.optimize import linear_sum_assignment

    given = np.asarray(labels)
    if given.shape != truth.shape:
        raise ValueError(f"label maps differ in shape: {truth.shape} and {given.shape}")
    ids = [k for k in np.unique(given).tolist() if k > 0]
    if not ids:
        return dict.fromkeys(range(1, objects + 1), 0.0)
    compact = np.searchsorted(np.asarray([0, *ids]), np.maximum(given, 0))
    size = len(ids) + 1
    table = np.bincount(
        truth.reshape(-1).astype(np.int64) * size + compact.reshape(-1),
        minlength=(objects + 1) * size,
    ).reshape(objects + 1, size)
    common = table[1:, 1:]
    union = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0)[None] - common
    ious = common / np.maximum(union, 1)
    rows, columns = linear_sum_assignment(-ious)
    found = dict.fromkeys(range(1, objects + 1), 0.0)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        found[row + 1] = float(ious[row, column])
    return found


def plot_curves(curves: Mapping[str, Curve], budget: int) -> Any:
    """Draw mean IoU over clicks of all players; returns a matplotlib figure."""
    from ..figure import NotebookFigure

    figure = NotebookFigure(figsize=(7.0, 3.6), layout="constrained", dpi=100)
    axes = figure.add_subplot()
    styles = {"you": ("#d55e00", "o", "-"), "robot": ("#0072b2", "s", "--")}
    for name, curve in curves.items():
        colour, marker, line = styles.get(name, ("black", "x", ":"))
        clicks = np.arange(len(curve.mean))
        for single in curve.ious.T:
            axes.plot(clicks, single, color=colour, alpha=0.15, linewidth=1)
        axes.plot(clicks, curve.mean, line, color=colour, marker=marker, markersize=4, label=name)
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color="grey", linewidth=0.8, linestyle=":")
        axes.text(
            1.005,
            threshold,
            f"{threshold:.0%}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color="grey",
        )
    longest = max(len(curve.mean) for curve in curves.values())
    axes.set_xlim(0, max(1, min(longest - 1, budget) if longest <= budget + 1 else longest - 1))
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("clicks")
    axes.set_ylabel("mean IoU over the objects")
    axes.legend(loc="lower right")
    return figure
