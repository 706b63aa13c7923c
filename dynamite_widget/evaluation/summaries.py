"""Summaries of records: over all samples, per source, class and size, and means over sources."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .metrics import summarise_mist, summarise_noc

Record = Mapping[str, Any]
SIZE_LIMITS = ((0.01, "< 1 %"), (0.05, "1-5 %"), (0.20, "5-20 %"), (math.inf, "> 20 %"))
"""Upper limits, as fractions of the picture, and names of the size classes."""


def summarise(
    protocol: str, records: Iterable[Record], *, iou_threshold: float, budget: int = 20
) -> dict[str, Any]:
    """Summarise the records of a run.

    Parameters
    ----------
    protocol : {"noc", "mist"}
    records : iterable of mappings
        From `noc.noc_records` or `mist.mist_records`.

    Returns
    -------
    dict
        The numbers of `metrics.summarise_noc` / `summarise_mist` over all samples, and
        ``sources``: the same per source; ``mean over sources``: their unweighted mean;
        for NoC also ``classes`` and ``sizes``; ``seconds per click`` and ``seconds to embed``.
    """
    rows = list(records)
    if protocol == "noc":
        rows = [row for row in rows if row["ious"]]

        def one(part: list[Record]) -> dict[str, Any]:
            return summarise_noc(part, iou_threshold, budget)

    elif protocol == "mist":

        def one(part: list[Record]) -> dict[str, Any]:
            return summarise_mist(part, iou_threshold)

    else:
        raise ValueError(f"protocol must be 'noc' or 'mist', got {protocol!r}")
    summary = one(rows)
    seconds = [value for row in rows for value in row["seconds"]]
    embeds = {row["image"]: row["embed_seconds"] for row in rows}
    summary["seconds per click"] = _mean(seconds)
    summary["seconds to embed"] = _mean(list(embeds.values()))
    sources = _grouped(rows, lambda row: str(row["source"]), one)
    summary["sources"] = sources
    summary["mean over sources"] = mean_over(sources.values())
    if protocol == "noc":
        summary["classes"] = _grouped(rows, lambda row: str(row["class_name"]), one)
        by_size = _grouped(rows, lambda row: size_class(row["area_fraction"]), one)
        order = [name for _, name in SIZE_LIMITS]
        summary["sizes"] = {name: by_size[name] for name in order if name in by_size}
    return summary


def size_class(area_fraction: float) -> str:
    """Return the name of the size class of an object, by its share of the picture."""
    return next(name for limit, name in SIZE_LIMITS if area_fraction < limit)


def mean_over(parts: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the unweighted mean of every mean of several summaries; counts are left out."""
    rows = list(parts)
    if not rows:
        return {}
    names = [name for name, value in rows[0].items() if isinstance(value, float)]
    return {name: _mean([row[name] for row in rows if row[name] == row[name]]) for name in names}


def _grouped(
    rows: list[Record],
    key: Callable[[Record], str],
    one: Callable[[list[Record]], dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return {name: one(groups[name]) for name in sorted(groups)}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
