"""Runs a protocol over a data set: resumable per picture, in several processes, deterministic.

What one picture yields does not depend on the others (random strategies are seeded by its key), so
order, number of workers and restarts change nothing but the measured seconds.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import DataError
from .baselines import check_baseline
from .datasets import EvaluationDataset, open_evaluation_dataset
from .mist import mist_records
from .noc import noc_records
from .predictors import EvaluationPredictor, load_predictor
from .records import RecordFile, check_identity, read_lines
from .robot import HumanLikeAnnotator, RobotAnnotator
from .samples import Sample
from .strategies import STRATEGIES, reference_random
from .summaries import summarise

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides the results of a run, and how it is computed.

    Parameters
    ----------
    data : str
        Data set, see `datasets.DATASETS`.
    protocol : {"noc", "mist"}
    model, checkpoint, baseline
        What is evaluated, see `predictors.load_predictor`.
    strategy : str
        Next object of "mist".
    iou_threshold : float
        Success at IoU >= this, in 0 … 1.
    budget : int
        "noc": clicks per object; "mist": clicks per object that the picture's budget is made of.
    min_clicks : int
        "noc": go on to this many clicks after success.
    min_area_fraction, limit
        Smaller objects become background; at most that many pictures, spread evenly.
    annotator : {"robot", "human"}
        `robot.RobotAnnotator` or `robot.HumanLikeAnnotator` (with `noise`, `second_error`).
    seed : int
    reference : bool
        Published behaviour in degenerate cases and of the random stream.
    device, threads
        Where to compute; of no influence on what is stored beyond rounding.
    """

    data: str
    protocol: str = "noc"
    model: str = "lite"
    checkpoint: str | None = None
    baseline: str | None = None
    strategy: str = "random"
    iou_threshold: float = 0.85
    budget: int = 20
    min_clicks: int = 1
    min_area_fraction: float = 0.0
    limit: int | None = None
    annotator: str = "robot"
    noise: float = 0.5
    second_error: float = 0.2
    radius_px: float = 5.0
    seed: int = 0
    reference: bool = False
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        allowed = {
            "protocol": (self.protocol, ("noc", "mist")),
            "strategy": (self.strategy, STRATEGIES),
            "annotator": (self.annotator, ("robot", "human")),
        }
        for name, (value, choices) in allowed.items():
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
        if self.baseline is not None:
            check_baseline(self.baseline)
        if not 0 < self.iou_threshold <= 1:
            raise ValueError(f"iou_threshold must be in 0 … 1, got {self.iou_threshold}")
        if self.budget < 1:
            raise ValueError(f"budget must be at least 1, got {self.budget}")

    @property
    def name(self) -> str:
        """What is evaluated, for tables."""
        return self.baseline or self.model

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a run to be continued."""
        fields = asdict(self)
        for name in ("device", "threads", "checkpoint"):
            del fields[name]
        if self.baseline is not None:
            del fields["model"]
        elif self.checkpoint is not None:
            fields["checkpoint_sha256"] = _sha256(Path(self.checkpoint))
        if self.protocol == "noc":
            del fields["strategy"]
        fields["version"] = __version__
        return fields


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise DataError(f"checkpoint {str(path)!r} cannot be read: {error}") from error
    return digest.hexdigest()


def evaluate_picture(
    predictor: EvaluationPredictor, sample: Sample, settings: RunSettings, rng: Any = None
) -> list[dict[str, Any]]:
    """Run the protocol of `settings` on one picture and return its records."""
    factory: Callable[..., RobotAnnotator] | None = None
    if settings.annotator == "human":

        def factory(truth: Any, objects: int, ignore: Any, key: str) -> RobotAnnotator:
            return HumanLikeAnnotator(
                truth,
                objects,
                ignore,
                radius_px=settings.radius_px,
                noise=settings.noise,
                second_error_probability=settings.second_error,
                seed=zlib.crc32(f"{settings.seed}:{key}".encode()),
            )

    if settings.protocol == "noc":
        return noc_records(
            predictor,
            sample,
            robot_factory=factory,
            iou_threshold=settings.iou_threshold,
            budget=settings.budget,
            min_clicks=settings.min_clicks,
            radius_px=settings.radius_px,
            reference=settings.reference,
        )
    return mist_records(
        predictor,
        sample,
        rng=rng,
        seed=settings.seed,
        robot_factory=factory,
        strategy=settings.strategy,
        iou_threshold=settings.iou_threshold,
        clicks_per_object=settings.budget,
        radius_px=settings.radius_px,
        reference=settings.reference,
    )


@dataclass(frozen=True)
class RunResult:
    """A finished run: its settings, records in data-set order, summary, and skipped pictures."""

    settings: RunSettings
    dataset: str
    pictures: int
    records: list[dict[str, Any]]
    summary: dict[str, Any]
    errors: dict[str, str]


def run_evaluation(
    settings: RunSettings,
    out: str | Path,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
    predictor: EvaluationPredictor | None = None,
    wait: Callable[[], None] | None = None,
) -> RunResult:
    """Evaluate a data set, continuing what is already in `out`.

    Parameters
    ----------
    settings : RunSettings
    out : path
        Folder of ``run.json`` (settings) and ``records*.jsonl`` (a line per picture).
    workers : int
        Processes; each loads the model.
    shard : (index, count)
        Compute only pictures index, index + count, … (of those that are left to do); shards may run
        on several machines that share `out`.
    progress : bool
        Show a progress bar.
    predictor : EvaluationPredictor, optional
        Use this object instead of loading one; one process only.
    wait : callable, optional
        Called after this shard is done and before all records are collected: a barrier.

    Raises
    ------
    DataError
        If the data set is unusable or `out` holds a run with other settings.
    """
    out = Path(out)
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard must be (index, count) with 0 <= index < count, got {shard}")
    if predictor is not None and workers > 1:
        raise ValueError("a predictor object is used in one process only; set workers=1")
    in_order = settings.reference and settings.protocol == "mist"
    if in_order and (workers > 1 or count > 1):
        raise ValueError("reference runs share one random stream: one worker, one shard")
    dataset = open_run_data(settings)
    check_identity(out / "run.json", settings.identity())
    if in_order:
        for path in record_files(out):
            path.unlink()
    done = read_lines(record_files(out))
    # Shards are cut from the whole list, so that no shard depends on what others have finished.
    todo = [i for i, key in enumerate(dataset.keys) if i % count == index and key not in done]
    name = "records.jsonl" if count == 1 else f"records-{index:05d}-of-{count:05d}.jsonl"
    errors: dict[str, str] = {}
    with RecordFile(out / name) as file:
        for line in _progress(
            _results(settings, dataset, todo, workers, predictor, in_order),
            total=len(todo),
            shown=progress,
        ):
            file.append(line)
            if "error" in line:
                errors[line["picture"]] = line["error"]
                logger.warning("picture %s skipped: %s", line["picture"], line["error"])
    if wait is not None:
        wait()
    return collect(settings, out, dataset, errors)


def collect(
    settings: RunSettings,
    out: Path,
    dataset: EvaluationDataset,
    errors: Mapping[str, str] | None = None,
) -> RunResult:
    """Read all records of a folder, in data-set order, and summarise them."""
    lines = read_lines(record_files(out))
    records = [record for key in dataset.keys if key in lines for record in lines[key]["records"]]
    summary = summarise(
        settings.protocol, records, iou_threshold=settings.iou_threshold, budget=settings.budget
    )
    finished = sum(key in lines for key in dataset.keys)
    return RunResult(settings, dataset.name, finished, records, summary, dict(errors or {}))


def open_run_data(settings: RunSettings) -> EvaluationDataset:
    """Open the data set of a run, cut down to its limit."""
    dataset = open_evaluation_dataset(settings.data, min_area_fraction=settings.min_area_fraction)
    return dataset.take(settings.limit)


def record_files(out: Path) -> list[Path]:
    """Return all record files of a run."""
    return sorted(out.glob("records*.jsonl"))


def load_settings_predictor(settings: RunSettings) -> EvaluationPredictor:
    """Load what a run evaluates."""
    return load_predictor(
        settings.model,
        settings.checkpoint,
        settings.device,
        settings.baseline,
        settings.threads,
        multi_instance=settings.protocol == "mist",
    )


def _results(
    settings: RunSettings,
    dataset: EvaluationDataset,
    todo: Sequence[int],
    workers: int,
    predictor: EvaluationPredictor | None,
    in_order: bool,
) -> Iterator[dict[str, Any]]:
    if not todo:
        return
    if workers <= 1:
        predictor = predictor or load_settings_predictor(settings)
        rng = reference_random(settings.seed) if in_order else None
        for index in todo:
            yield _one(predictor, dataset, index, settings, rng)
        return
    if settings.threads is None:
        settings = replace(settings, threads=max(1, (os.cpu_count() or 1) // workers))
    # spawn: a forked torch hangs, and Windows and macOS know nothing else
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(todo)), _start_worker, (settings,)) as pool:
        yield from pool.imap_unordered(_work, todo)


def _one(
    predictor: EvaluationPredictor,
    dataset: EvaluationDataset,
    index: int,
    settings: RunSettings,
    rng: Any = None,
) -> dict[str, Any]:
    key = dataset.keys[index]
    try:
        sample = dataset[index]
    except DataError as error:
        # One damaged picture must not end a run of hours; it is named in the report.
        return {"picture": key, "error": str(error)}
    return {"picture": key, "records": evaluate_picture(predictor, sample, settings, rng)}


class _Worker:
    """State of a worker process, set once by `_start_worker`."""

    predictor: EvaluationPredictor
    dataset: EvaluationDataset
    settings: RunSettings


def _start_worker(settings: RunSettings) -> None:
    import cv2

    cv2.setNumThreads(settings.threads or 1)
    _Worker.settings = settings
    _Worker.dataset = open_run_data(settings)
    _Worker.predictor = load_settings_predictor(settings)


def _work(index: int) -> dict[str, Any]:
    return _one(_Worker.predictor, _Worker.dataset, index, _Worker.settings)


def _progress(lines: Iterator[dict[str, Any]], total: int, shown: bool) -> Iterator[dict[str, Any]]:
    if not shown:
        yield from lines
        return
    from tqdm.auto import tqdm

    good: list[float] = []
    with tqdm(total=total, desc="pictures", unit="picture") as bar:
        for line in lines:
            for record in line.get("records", ()):
                good.append(float(np.mean(record.get("final_ious") or record["ious"][-1:] or [0])))
            if good:
                bar.set_postfix({"IoU": f"{np.mean(good):.3f}"})
            bar.update()
            yield line
