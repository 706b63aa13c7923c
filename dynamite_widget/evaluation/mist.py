"""Multi-instance protocol (MIST): all objects of a picture, one shared budget of clicks."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Any

from .metrics import instance_ious
from .noc import RobotFactory, _with_progress
from .predictors import EvaluationPredictor, predict_label_map
from .robot import RobotAnnotator
from .samples import Sample
from .strategies import make_chooser, open_instances, picture_random, reference_random


def run_mist(
    predictor: EvaluationPredictor,
    embedding: Any,
    robot: RobotAnnotator,
    *,
    strategy: str = "random",
    iou_threshold: float = 0.85,
    clicks_per_object: int = 10,
    rng: random.Random | None = None,
) -> dict[str, Any]:
    """Click all objects of one picture until all are good enough or the budget is used.

    Parameters
    ----------
    predictor, embedding
        What is evaluated, and what its ``embed`` returned for the picture.
    robot : RobotAnnotator
        Fresh annotator that knows the ground truth of the picture.
    strategy : str
        One of `strategies.STRATEGIES`.
    iou_threshold : float
        An object is satisfied at IoU >= this.
    clicks_per_object : int
        The budget of the picture is this times the number of objects, initial clicks included.
    rng : random.Random, optional
        For the strategies that draw; default: the published seed 0, fresh.

    Returns
    -------
    dict
        ``n_objects``, ``n_clicks``, ``final_ious`` (by instance), ``mean_ious`` (mean over the
        objects after each prediction, the first with one click per object), ``clicks``
        ([t, instance, y, x]), ``seconds`` per prediction, ``stopped``.

    Notes
    -----
    Section 7.3 of the protocol. An object without a clickable error pixel left is set aside
    until another click changed the prediction; if no object can be clicked the run ends ("no error
    left").
    The published code clicks pixel (0, 0) instead (``robot.reference``).
    """
    objects = robot.objects
    truth = robot.truth
    ignore = None if robot.valid is None else ~robot.valid
    chooser = make_chooser(strategy, objects, clicks_per_object, rng or reference_random())
    instances = tuple(range(1, objects + 1))
    budget = clicks_per_object * objects
    seconds: list[float] = []
    mean_ious: list[float] = []
    empty = float("nan") if robot.reference else 1.0
    stopped = "budget"
    robot.first_clicks()
    while True:
        start = time.perf_counter()
        prediction = predict_label_map(predictor, embedding, robot.clicks, instances, truth.shape)
        seconds.append(time.perf_counter() - start)
        ious = instance_ious(truth, prediction, objects, ignore, empty=empty)
        mean_ious.append(sum(ious.values()) / max(objects, 1))
        if not open_instances(ious, iou_threshold):
            stopped = "reached"
            break
        if len(robot.clicks) >= budget:
            break
        if chooser is None:
            placed = robot.next_click_anywhere(prediction) is not None
        else:
            placed = False
            exhausted: set[int] = set()
            while not placed and (left := open_instances(ious, iou_threshold, exhausted)):
                instance = chooser.choose(ious, left)
                placed = robot.next_click(prediction, instance) is not None
                exhausted.add(instance)
        if not placed:
            stopped = "no error left"
            break
    return {
        "n_objects": objects,
        "n_clicks": len(robot.clicks),
        "final_ious": [round(ious[k], 6) for k in instances],
        "mean_ious": [round(value, 6) for value in mean_ious],
        "clicks": [[c.t, c.instance, c.y, c.x] for c in robot.clicks],
        "seconds": [round(value, 5) for value in seconds],
        "stopped": stopped,
    }


def mist_records(
    predictor: EvaluationPredictor,
    sample: Sample,
    *,
    rng: random.Random | None = None,
    seed: int = 0,
    radius_px: float = 5.0,
    reference: bool = False,
    robot_factory: RobotFactory | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Run the multi-instance protocol on one picture.

    Hidden objects (no visible pixel) are removed first; the published code keeps them
    (`reference`). Without `rng`, random choices depend on `seed` and the key of the picture only.

    Returns
    -------
    list of dict
        One record: what `run_mist` returns plus ``key``, ``image``, ``source``, ``class_names``,
        ``area_fractions``, ``embed_seconds``. Empty if the picture has no visible object.
    """
    if not reference:
        sample = sample.without_hidden()
    if not sample.objects:
        return []
    count = len(sample.objects)
    if robot_factory is not None:
        robot = robot_factory(sample.label_map, count, sample.ignore, sample.key)
    else:
        robot = RobotAnnotator(
            sample.label_map, count, sample.ignore, radius_px=radius_px, reference=reference
        )
    start = time.perf_counter()
    embedding = predictor.embed(sample.image)
    embed_seconds = time.perf_counter() - start
    run = run_mist(
        predictor, embedding, robot, rng=rng or picture_random(seed, sample.key), **options
    )
    total = sample.label_map.size
    return [
        {
            "key": sample.key,
            "image": sample.key,
            "source": sample.source,
            "class_names": [info.class_name for info in sample.objects],
            "area_fractions": [
                round(int((sample.label_map == info.number).sum()) / total, 6)
                for info in sample.objects
            ],
            "embed_seconds": round(embed_seconds, 5),
            **run,
        }
    ]


def evaluate_mist(
    predictor: EvaluationPredictor,
    dataset: Iterable[Sample],
    *,
    strategy: str = "random",
    iou_threshold: float = 0.85,
    clicks_per_object: int = 10,
    seed: int = 0,
    reference: bool = False,
    progress: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the multi-instance protocol on a data set in this process.

    Parameters
    ----------
    seed : int
        Of the random strategies. With `reference` one generator serves all pictures in order, as in
        the published runs; otherwise each picture has its own, so that order does not matter.

    Returns
    -------
    summary : dict
        See `metrics.summarise_mist`; with ``sources`` and ``mean over sources``.
    records : list of dict
        One per picture, see `mist_records`.
    """
    from .summaries import summarise

    shared = reference_random(seed) if reference else None
    records: list[dict[str, Any]] = []
    for sample in _with_progress(dataset, progress):
        records += mist_records(
            predictor,
            sample,
            rng=shared,
            seed=seed,
            reference=reference,
            strategy=strategy,
            iou_threshold=iou_threshold,
            clicks_per_object=clicks_per_object,
            **options,
        )
    return summarise("mist", records, iou_threshold=iou_threshold), records
