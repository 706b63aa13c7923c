"""Single-instance protocol (NoC): one object per sample, clicks until it is good enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .metrics import iou
from .predictors import EvaluationPredictor, predict_label_map
from .robot import BoolMap, RobotAnnotator
from .samples import Sample


def run_noc(
    predictor: EvaluationPredictor,
    embedding: Any,
    target: BoolMap,
    ignore: BoolMap | None = None,
    *,
    iou_threshold: float = 0.90,
    budget: int = 20,
    min_clicks: int = 1,
    radius_px: float = 5.0,
    reference: bool = False,
    robot: RobotAnnotator | None = None,
) -> dict[str, Any]:
    """Click one object until its IoU reaches the threshold or the budget is used.

    Parameters
    ----------
    predictor, embedding
        What is evaluated, and what its ``embed`` returned for the picture.
    target : (H, W) bool
        The object.
    ignore : (H, W) bool, optional
        Pixels that count nowhere.
    iou_threshold : float
        Success at IoU >= this.
    budget : int
        Clicks at most, the first included.
    min_clicks : int
        Go on to this many clicks even after success, so that "IoU after k clicks" is not cut short.
    radius_px : float
        Radius of the disc in which the robot clicks only once.
    reference : bool
        Reproduce the published code in degenerate cases (see `RobotAnnotator`).
    robot : RobotAnnotator, optional
        Another annotator of the same object, `HumanLikeAnnotator` for example.

    Returns
    -------
    dict
        ``ious`` (after each click), ``clicks`` ([t, instance, y, x]), ``seconds`` per prediction,
        ``stopped``: "reached", "budget", "no error left" or "empty".

    Notes
    -----
    Section 7.2 of the protocol. An empty target is not clicked and has no IoU ("empty").
    """
    if robot is None:
        robot = RobotAnnotator(
            target.astype(np.int32), 1, ignore, radius_px=radius_px, reference=reference
        )
    ious: list[float] = []
    seconds: list[float] = []
    placed = bool(robot.first_clicks())
    stopped = "budget" if placed else "empty"
    while placed:
        start = time.perf_counter()
        prediction = predict_label_map(predictor, embedding, robot.clicks, (1,), target.shape)
        seconds.append(time.perf_counter() - start)
        ious.append(iou(target, prediction == 1, ignore, empty=float("nan") if reference else 1.0))
        good = any(value >= iou_threshold for value in ious)
        if good and len(ious) >= min_clicks:
            stopped = "reached"
            break
        if len(ious) >= budget:
            break
        if robot.next_click(prediction, 1) is None:
            stopped = "reached" if good else "no error left"
            break
    return {
        "ious": [round(value, 6) for value in ious],
        "clicks": [[c.t, c.instance, c.y, c.x] for c in robot.clicks],
        "seconds": [round(value, 5) for value in seconds],
        "stopped": stopped,
    }


RobotFactory = Callable[..., RobotAnnotator]


def noc_records(
    predictor: EvaluationPredictor,
    sample: Sample,
    *,
    robot_factory: RobotFactory | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Run the single-instance protocol on every object of one picture (embedded once).

    Parameters
    ----------
    robot_factory : callable, optional
        ``factory(truth, objects, ignore, key)`` → annotator, one per object.
    **options
        Passed to `run_noc`.

    Returns
    -------
    list of dict
        What `run_noc` returns plus ``key``, ``image``, ``instance``, ``class_name``, ``source``,
        ``area_fraction`` and ``embed_seconds``. Objects without a pixel are left out.
        Overlapping masks are not resolved: every object is a sample of its own.
    """
    start = time.perf_counter()
    embedding = predictor.embed(sample.image)
    embed_seconds = time.perf_counter() - start
    records = []
    for info in sample.objects:
        target = sample.target(info.number)
        if not target.any() and not options.get("reference"):
            continue
        key = f"{sample.key}#{info.number}"
        robot = None
        if robot_factory is not None:
            robot = robot_factory(target.astype(np.int32), 1, sample.ignore, key)
        run = run_noc(predictor, embedding, target, sample.ignore, robot=robot, **options)
        records.append(
            {
                "key": key,
                "image": sample.key,
                "instance": info.number,
                "class_name": info.class_name,
                "source": sample.source,
                "area_fraction": round(float(target.mean()), 6),
                "embed_seconds": round(embed_seconds, 5),
                **run,
            }
        )
    return records


def evaluate_noc(
    predictor: EvaluationPredictor,
    dataset: Iterable[Sample],
    *,
    iou_threshold: float = 0.90,
    budget: int = 20,
    progress: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the single-instance protocol on a data set in this process.

    Parameters
    ----------
    predictor
        Anything with ``embed`` and ``predict`` (see `predictors`).
    dataset : iterable of Sample
    iou_threshold, budget
        See `run_noc`; further options are passed to it.
    progress : bool
        Show a progress bar over pictures.

    Returns
    -------
    summary : dict
        See `metrics.summarise_noc`; with ``sources`` (per source) and ``mean over sources``.
    records : list of dict
        One per object, see `noc_records`.
    """
    from .summaries import summarise

    records: list[dict[str, Any]] = []
    for sample in _with_progress(dataset, progress):
        records += noc_records(
            predictor, sample, iou_threshold=iou_threshold, budget=budget, **options
        )
    return summarise("noc", records, iou_threshold=iou_threshold, budget=budget), records


def _with_progress(dataset: Iterable[Sample], progress: bool) -> Iterable[Sample]:
    if not progress:
        return dataset
    from tqdm.auto import tqdm

    bar: Iterable[Sample] = tqdm(dataset, desc="pictures", unit="picture")
    return bar
