"""Numbers of a run: IoU, clicks until a quality is reached, failures, and their summaries.

Everything here is plain arithmetic on label maps and lists; no clicking, no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOC_THRESHOLDS = (0.80, 0.85, 0.90, 0.95)
"""IoU values at which the number of clicks is reported."""


def iou(
    truth: NDArray[np.generic],
    prediction: NDArray[np.generic],
    ignore: NDArray[np.bool_] | None = None,
    *,
    empty: float = 1.0,
) -> float:
    """Return intersection over union of two masks, without the ignored pixels.

    Parameters
    ----------
    truth, prediction : (H, W) bool
    ignore : (H, W) bool, optional
    empty : float
        Value when both masks are empty. The published code yields NaN there, which no threshold
        ever accepts; "nothing there, nothing predicted" is perfect agreement.

    Returns
    -------
    float in 0 … 1
    """
    a = np.asarray(truth, dtype=bool)
    b = np.asarray(prediction, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"masks differ in shape: {a.shape} and {b.shape}")
    union = a | b
    common = a & b
    if ignore is not None:
        union = union & ~ignore
        common = common & ~ignore
    total = int(np.count_nonzero(union))
    return int(np.count_nonzero(common)) / total if total else empty


def instance_ious(
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    objects: int,
    ignore: NDArray[np.bool_] | None = None,
    *,
    empty: float = 1.0,
) -> dict[int, float]:
    """Return the IoU of every instance 1 … `objects` of two label maps.

    One pass over the pixels. Labels outside 0 … objects in the prediction count as background.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"label maps differ in shape: {truth.shape} and {prediction.shape}")
    a = np.asarray(truth).reshape(-1).astype(np.int64, copy=False)
    b = np.asarray(prediction).reshape(-1).astype(np.int64)
    b[(b < 0) | (b > objects)] = 0
    if ignore is not None:
        keep = ~ignore.reshape(-1)
        a, b = a[keep], b[keep]
    size = objects + 1
    table = np.bincount(a * size + b, minlength=size * size).reshape(size, size)
    common = np.diagonal(table)
    union = table.sum(axis=0) + table.sum(axis=1) - common
    return {k: float(common[k] / union[k]) if union[k] else empty for k in range(1, objects + 1)}


def number_of_clicks(ious: Sequence[float], threshold: float, budget: int = 20) -> int:
    """Return the 1-based index of the first IoU >= threshold, `budget` if never reached (NoC)."""
    for index, value in enumerate(ious[:budget], start=1):
        if value >= threshold:
            return index
    return budget


def reached(ious: Sequence[float], threshold: float, budget: int = 20) -> bool:
    """Return whether any of the first `budget` IoUs is at least the threshold."""
    return any(value >= threshold for value in ious[:budget])


def iou_after(ious: Sequence[float], clicks: int) -> float:
    """Return the IoU after that many clicks; a run that stopped earlier keeps its last value."""
    if not ious:
        return math.nan
    return ious[min(clicks, len(ious)) - 1]


def confidence_interval(
    values: Sequence[float], level: float = 0.95, repeats: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return a bootstrap interval of the mean (percentiles; NaN for no values)."""
    data = np.asarray(values, np.float64)
    if data.size == 0:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).integers(0, data.size, (repeats, data.size))
    low, high = np.quantile(data[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise_noc(
    records: Iterable[Mapping[str, Any]],
    threshold: float,
    budget: int = 20,
    iou_clicks: Sequence[int] = (1, 2, 3, 5, 10, 20),
) -> dict[str, Any]:
    """Summarise single-instance records (see `noc.run_noc`).

    Parameters
    ----------
    records : iterable of mappings with "ious"
    threshold : float
        The IoU at which runs stopped; NoC is given for `NOC_THRESHOLDS` up to it, and for itself.
    budget : int
        Clicks counted for a sample that never succeeds.

    Returns
    -------
    dict
        ``samples``; ``NoC@85`` …, ``NFO@85`` …, ``failed@85`` … (NFO as a fraction), ``NoC@85
        interval`` … (95 %); ``IoU@1`` ….
    """
    runs = [list(record["ious"]) for record in records]
    summary: dict[str, Any] = {"samples": len(runs)}
    wanted = sorted({q for q in NOC_THRESHOLDS if q <= threshold + 1e-9} | {threshold})
    for q in wanted:
        counts = [number_of_clicks(run, q, budget) for run in runs]
        name = percent(q)
        summary[f"NoC@{name}"] = _mean(counts)
        failed = [not reached(run, q, budget) for run in runs]
        summary[f"NFO@{name}"] = sum(failed)
        summary[f"failed@{name}"] = _mean(failed)
        summary[f"NoC@{name} interval"] = list(confidence_interval(counts))
    for clicks in iou_clicks:
        if clicks <= budget:
            summary[f"IoU@{clicks}"] = _mean([iou_after(run, clicks) for run in runs])
    return summary


def summarise_mist(records: Iterable[Mapping[str, Any]], threshold: float) -> dict[str, Any]:
    """Summarise multi-instance records (see `mist.run_mist`).

    Returns
    -------
    dict
        ``images``, ``objects``, ``NCI`` (mean over images of clicks per object), ``NFO`` (objects
        that stay below the threshold), ``failed`` (NFO as a fraction of the objects), ``NFI``
        (images with such an object), ``IoU`` (mean over images of the mean over objects), ``IoU
        initial`` (the same after one click per object).
    """
    rows = list(records)
    ratios = [row["n_clicks"] / row["n_objects"] for row in rows]
    failed = [sum(not value >= threshold for value in row["final_ious"]) for row in rows]
    objects = sum(row["n_objects"] for row in rows)
    return {
        "images": len(rows),
        "objects": objects,
        "NCI": _mean(ratios),
        "NCI interval": list(confidence_interval(ratios)),
        "NFO": sum(failed),
        "NFI": sum(count > 0 for count in failed),
        "failed": sum(failed) / objects if objects else math.nan,
        "IoU": _mean([_mean(row["final_ious"]) for row in rows]),
        "IoU initial": _mean([row["mean_ious"][0] for row in rows if row.get("mean_ious")]),
    }


def percent(threshold: float) -> str:
    """Return a threshold as the literature writes it: 0.85 → "85", 0.875 → "87.5"."""
    return f"{threshold * 100:g}"


def _mean(values: Sequence[float] | Sequence[int]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
