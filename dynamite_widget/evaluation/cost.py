"""What annotating a set will cost: clicks and seconds, from a sample of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import confidence_interval
from .mist import mist_records
from .predictors import EvaluationPredictor
from .samples import Sample

SECONDS_PER_CLICK = 2.5
"""What a person takes to see an error and click it, without the computer's time: an assumption
of the order that user studies of interactive segmentation report. Measure your own and pass it."""


@dataclass(frozen=True)
class CostEstimate:
    """Cost of a set, each with a 95 % interval (low, high) that covers the sampling error only.

    Parameters
    ----------
    pictures, sampled : int
        Pictures of the set, and of the sample that was measured.
    clicks, seconds : float
        For the whole set; seconds are those of one person, computing included.
    clicks_interval, seconds_interval : (float, float)
        95 % bootstrap intervals.
    clicks_per_picture : float
    unfinished_fraction : float
        Pictures of the sample that needed more clicks than allowed and are counted with those; with
        sessions of people it is 0.
    """

    pictures: int
    sampled: int
    clicks: float
    clicks_interval: tuple[float, float]
    seconds: float
    seconds_interval: tuple[float, float]
    clicks_per_picture: float
    unfinished_fraction: float

    def __str__(self) -> str:
        low, high = (value / 3600 for value in self.seconds_interval)
        text = (
            f"{self.pictures} pictures: about {self.clicks:.0f} clicks "
            f"({self.clicks_interval[0]:.0f} to {self.clicks_interval[1]:.0f}) and "
            f"{self.seconds / 3600:.2g} h ({low:.2g} to {high:.2g}), from {self.sampled} pictures"
        )
        if self.unfinished_fraction:
            text += f"; {self.unfinished_fraction:.0%} of them were not good enough in the end"
        return text


def estimate_cost(
    source: Iterable[Any],
    pictures: int | None = None,
    *,
    predictor: EvaluationPredictor | None = None,
    seconds_per_click: float = SECONDS_PER_CLICK,
    seconds_per_picture: float = 5.0,
    sample_size: int = 20,
    iou_threshold: float = 0.85,
    clicks_per_object: int = 10,
    seed: int = 0,
) -> CostEstimate:
    """Estimate how many clicks and seconds a set will need.

    Parameters
    ----------
    source : iterable
        Either finished sessions of the set (objects with ``clicks``; where clicks carry ``seconds``
        the time between the first and the last is used), or a data set of `Sample` with ground
        truth, which a robot then annotates with `predictor`.
    pictures : int, optional
        Size of the whole set. Default: the number of items of `source`.
    predictor : EvaluationPredictor, optional
        Needed for data sets.
    seconds_per_click, seconds_per_picture : float
        A person's time per click, and to look at a new picture (data sets, and sessions without
        times).
    sample_size : int
        Pictures of a data set that are annotated, drawn at random with `seed`.
    iou_threshold, clicks_per_object
        When an object is good enough, and what is spent at most (see `mist.run_mist`).

    Raises
    ------
    ValueError
        If there is nothing to measure, or a data set comes without predictor.
    """
    lazy: Any = source
    # a data set is indexed, so that only the pictures of the sample are read
    items = lazy if hasattr(lazy, "__len__") and hasattr(lazy, "__getitem__") else list(lazy)
    total = len(items) if pictures is None else pictures
    if len(items) == 0:
        raise ValueError("there is no picture to estimate from")
    if hasattr(items[0], "label_map"):
        if predictor is None:
            raise ValueError("a data set with ground truth needs a predictor to annotate it")
        rng = np.random.default_rng(seed)
        count = min(sample_size, len(items))
        chosen = np.sort(rng.choice(len(items), count, replace=False))
        rows = []
        for index in chosen:
            sample: Sample = items[int(index)]
            records = mist_records(
                predictor,
                sample,
                seed=seed,
                iou_threshold=iou_threshold,
                clicks_per_object=clicks_per_object,
            )
            rows.append(_of_record(records, seconds_per_click, seconds_per_picture))
    else:
        rows = [_of_session(item, seconds_per_click, seconds_per_picture) for item in items]
    clicks = [row[0] for row in rows]
    seconds = [row[1] for row in rows]
    return CostEstimate(
        pictures=total,
        sampled=len(rows),
        clicks=total * float(np.mean(clicks)),
        clicks_interval=_scaled(clicks, total),
        seconds=total * float(np.mean(seconds)),
        seconds_interval=_scaled(seconds, total),
        clicks_per_picture=float(np.mean(clicks)),
        unfinished_fraction=float(np.mean([row[2] for row in rows])),
    )


def _scaled(values: Sequence[float], total: int) -> tuple[float, float]:
    low, high = confidence_interval(values)
    return total * low, total * high


def _of_record(
    records: Sequence[Mapping[str, Any]], per_click: float, per_picture: float
) -> tuple[float, float, bool]:
    if not records:
        return 0.0, per_picture, False
    (record,) = records
    computing = record["embed_seconds"] + math.fsum(record["seconds"])
    clicks = record["n_clicks"]
    return clicks, per_picture + clicks * per_click + computing, record["stopped"] != "reached"


def _of_session(session: Any, per_click: float, per_picture: float) -> tuple[float, float, bool]:
    clicks = list(session.clicks)
    times = [click.seconds for click in clicks if getattr(click, "seconds", None) is not None]
    if len(times) == len(clicks) >= 2:
        # The first click has no predecessor; it takes as long as the others do on average.
        span = max(times) - min(times)
        return len(clicks), per_picture + span * len(clicks) / (len(clicks) - 1), False
    return len(clicks), per_picture + len(clicks) * per_click, False
