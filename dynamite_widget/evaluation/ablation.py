"""The switches of the paper's Table 3: trained briefly, with repeats, and compared.

Each cell (variant, repeat) is trained and evaluated in a folder of its own; a run that was
interrupted goes on where it stopped. The pages and tables are written by `ablation_report`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .page import plain
from .records import check_identity, write_atomically
from .runner import RunSettings, run_evaluation

if TYPE_CHECKING:
    from ..training.config import TrainConfig
    from ..training.data import InstanceDataset

logger = logging.getLogger(__name__)

METRICS = ("NCI", "NFO", "NFI", "IoU")
"""What is compared; the first is the one that pages plot."""
FULL = "full"


@dataclass(frozen=True)
class Variant:
    """One row of the table: what is switched off.

    Parameters
    ----------
    name : str
        For the command line and folders.
    title : str
        For tables; that of the paper for the rows of its Table 3.
    changes : mapping
        Fields of `ModelConfig` that differ from the full network.
    """

    name: str
    title: str
    changes: Mapping[str, Any]


TABLE_3 = (
    Variant(FULL, "full", {}),
    Variant("no-decoder", "no transformer decoder", {"decoder_layers": 0}),
    Variant("no-static-queries", "no static background queries", {"static_queries": 0}),
    Variant("no-temporal", "no temporal code", {"positional": "spatial"}),
    Variant("no-spatial", "no spatial code", {"positional": "temporal"}),
    Variant("no-position", "no spatio-temporal code", {"positional": "none"}),
)
EXTENSIONS = (
    Variant("no-identity", "no identity codes", {"identity_codes": 0}),
    Variant("no-relative", "no relative term in the mask head", {"relative_mask": False}),
    Variant("no-refinement", "no refinement of the logits", {"refine_width": 0}),
)
"""Switches of ``lite`` that the paper's networks do not have."""
VARIANTS = {variant.name: variant for variant in (*TABLE_3, *EXTENSIONS)}


@dataclass(frozen=True)
class AblationSettings:
    """What is trained, and how it is measured.

    Parameters
    ----------
    recipe : TrainConfig
        Of every run; repeat k trains with its seed + k (same crops for all variants).
    data : str
        Data set of the evaluation, see `datasets.DATASETS`.
    model_changes : mapping
        Fields of `ModelConfig` changed in all variants.
    pretrained : bool
        Start the backbone from ImageNet weights (`backbone`, by default the preset's).
    backbone : Path, optional
    strategy, iou_threshold, budget, limit, min_area_fraction
        Of the multi-instance protocol, see `runner.RunSettings`.
    device, threads
        Where to evaluate.
    """

    recipe: TrainConfig
    data: str
    model_changes: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    backbone: Path | None = None
    strategy: str = "random"
    iou_threshold: float = 0.85
    budget: int = 10
    limit: int | None = 50
    min_area_fraction: float = 0.0
    device: str = "auto"
    threads: int | None = None

    def identity(self) -> dict[str, Any]:
        """Return what must be equal for a run to be continued; variants and repeats may grow."""
        content = asdict(replace(self, recipe=None))  # type: ignore[arg-type]
        for name in ("device", "threads"):
            del content[name]
        content["backbone"] = None if self.backbone is None else self.backbone.name
        content["recipe"] = json.loads(self.recipe.to_json())
        return content


@dataclass(frozen=True)
class Cell:
    """One trained and evaluated network.

    Parameters
    ----------
    variant : str
    repeat, seed : int
    parameters : int
        Numbers in the network, frozen ones included.
    minutes : float
        Of training.
    summary : dict
        See `metrics.summarise_mist`.
    """

    variant: str
    repeat: int
    seed: int
    parameters: int
    minutes: float
    summary: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A variant over its repeats; standard deviations are None below two repeats.

    Parameters
    ----------
    variant : Variant
    repeats : int
    means, deviations : mapping from metric to float
        Of `METRICS`; sample standard deviation.
    differences, difference_deviations : mapping from metric to float
        To the full network with the same seed: mean and sample standard deviation.
    values : mapping from metric to tuple of float
        Of the repeats.
    parameters : int
    minutes : float
        Mean training time.
    """

    variant: Variant
    repeats: int
    means: Mapping[str, float]
    deviations: Mapping[str, float | None]
    differences: Mapping[str, float | None]
    difference_deviations: Mapping[str, float | None]
    values: Mapping[str, tuple[float, ...]]
    parameters: int
    minutes: float


def choose_variants(names: Iterable[str] | None = None) -> list[Variant]:
    """Return variants by name; those of Table 3 by default, and always the full network first.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    if names is None:
        return list(TABLE_3)
    wanted = dict.fromkeys([FULL, *names])
    if unknown := [name for name in wanted if name not in VARIANTS]:
        raise ValueError(f"unknown variant {unknown[0]!r}; known: {', '.join(VARIANTS)}")
    return [VARIANTS[name] for name in wanted]


def run_ablation(
    settings: AblationSettings,
    data: InstanceDataset,
    out: str | Path,
    *,
    variants: Iterable[str] | None = None,
    repeats: int = 3,
    workers: int = 1,
    progress: bool = False,
    on_cell: Callable[[list[Row]], object] | None = None,
) -> list[Row]:
    """Train and evaluate every variant `repeats` times, continuing what is in `out`.

    Parameters
    ----------
    settings : AblationSettings
    data : InstanceDataset
        Training pictures.
    out : path
        A folder per variant and repeat: ``training`` (log, weights), ``evaluation`` (records).
    variants : iterable of str, optional
        Names in `VARIANTS`; those of Table 3 by default.
    repeats : int
        All variants are done once before any is repeated, so that a stopped run compares.
    workers : int
        Processes that make training samples.
    progress : bool
        Show progress bars.
    on_cell : callable, optional
        Called with the rows so far after every cell.

    Returns
    -------
    list of Row
        One per variant that is done at least once.

    Raises
    ------
    DataError
        If `out` holds a run with other settings.
    ValueError
        For an unknown variant, or one that changes nothing in this network.
    KeyboardInterrupt
        If a training was asked to stop; its checkpoint is kept.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    out = Path(out)
    chosen = choose_variants(variants)
    for variant in chosen:
        _model_config(settings, variant)  # refuse what cannot be before hours of training
    check_identity(out / "run.json", settings.identity())
    cells: list[Cell] = []
    for repeat in range(repeats):
        for variant in chosen:
            number = repeat * len(chosen) + chosen.index(variant) + 1
            logger.info(
                "%d of %d: %s, repeat %d",
                number,
                repeats * len(chosen),
                variant.title,
                repeat + 1,
            )
            cells.append(_cell(settings, variant, repeat, data, out, workers, progress))
            if on_cell is not None:
                on_cell(summarise_cells(cells))
    return summarise_cells(cells)


def summarise_cells(cells: Sequence[Cell]) -> list[Row]:
    """Summarise cells by variant, in the order of their first appearance."""
    by_variant: dict[str, list[Cell]] = {}
    for cell in cells:
        by_variant.setdefault(cell.variant, []).append(cell)
    full = {cell.repeat: cell for cell in by_variant.get(FULL, [])}
    rows = []
    for name, group in by_variant.items():
        values = {m: tuple(float(cell.summary[m]) for cell in group) for m in METRICS}
        paired = {
            m: [
                float(cell.summary[m]) - float(full[cell.repeat].summary[m])
                for cell in group
                if name != FULL and cell.repeat in full
            ]
            for m in METRICS
        }
        rows.append(
            Row(
                VARIANTS[name],
                len(group),
                {m: float(np.mean(values[m])) for m in METRICS},
                {m: _deviation(values[m]) for m in METRICS},
                {m: float(np.mean(paired[m])) if paired[m] else None for m in METRICS},
                {m: _deviation(paired[m]) for m in METRICS},
                values,
                group[0].parameters,
                float(np.mean([cell.minutes for cell in group])),
            )
        )
    return rows


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _model_config(settings: AblationSettings, variant: Variant) -> Any:
    from ..model.config import get_config

    full = get_config(settings.recipe.preset).replace(**settings.model_changes)
    config = full.replace(**variant.changes)
    if variant.name != FULL and config == full:
        raise ValueError(
            f"variant {variant.name!r} changes nothing: {settings.recipe.preset!r} already has "
            + ", ".join(f"{name}={value!r}" for name, value in variant.changes.items())
        )
    return config


def _cell(
    settings: AblationSettings,
    variant: Variant,
    repeat: int,
    data: InstanceDataset,
    out: Path,
    workers: int,
    progress: bool,
) -> Cell:
    folder = out / variant.name / f"repeat-{repeat + 1}"
    stored = folder / "result.json"
    if stored.is_file():
        try:
            return Cell(**json.loads(stored.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise DataError(f"{str(stored)!r} is damaged ({error}); remove it") from error
    weights = folder / "training" / "weights.safetensors"
    if not weights.is_file():
        _train(settings, variant, repeat, data, weights, workers, progress)
    from ..model.checkpoints import clear_model_cache, load_model
    from ..model.predictor import Predictor

    network = load_model(settings.recipe.preset, checkpoint=weights, device=settings.device)
    facts = json.loads(weights.with_name("facts.json").read_text(encoding="utf-8"))
    run = RunSettings(
        settings.data,
        "mist",
        model=settings.recipe.preset,
        checkpoint=str(weights),
        strategy=settings.strategy,
        iou_threshold=settings.iou_threshold,
        budget=settings.budget,
        min_area_fraction=settings.min_area_fraction,
        limit=settings.limit,
        seed=repeat,
        threads=settings.threads,
    )
    result = run_evaluation(
        run, folder / "evaluation", progress=progress, predictor=Predictor(network, exact=True)
    )
    if result.errors:
        raise DataError(f"{len(result.errors)} pictures cannot be read: {result.errors}")
    clear_model_cache()  # each network is used once
    summary = {name: result.summary[name] for name in ("images", "objects", *METRICS)}
    cell = Cell(variant.name, repeat, settings.recipe.seed + repeat, **facts, summary=summary)
    write_atomically(stored, json.dumps(plain(asdict(cell)), indent=1) + "\n")
    return cell


def _train(
    settings: AblationSettings,
    variant: Variant,
    repeat: int,
    data: InstanceDataset,
    weights: Path,
    workers: int,
    progress: bool,
) -> None:
    import torch

    from ..model.dynamite import build_model
    from ..model.weights_file import save_checkpoint
    from ..training.initialise import initialise_backbone
    from ..training.loop import Trainer
    from ..training.options import LoopOptions

    recipe = replace(settings.recipe, seed=settings.recipe.seed + repeat)
    torch.manual_seed(recipe.seed)
    model = build_model(_model_config(settings, variant))
    checkpoint = weights.with_name("checkpoint.pt")
    resume = checkpoint.is_file()
    if settings.pretrained and not resume:
        initialise_backbone(model, settings.backbone)
    options = LoopOptions(
        weights.parent, resume=resume, workers=workers, pictures=False, progress=progress
    )
    trainer = Trainer(model, data, recipe, options)
    summary = trainer.run()
    if not summary["finished"]:
        raise KeyboardInterrupt
    model.load_state_dict(trainer.weights())
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "minutes": round(summary["minutes"], 3),
    }
    write_atomically(weights.with_name("facts.json"), json.dumps(facts) + "\n")
    save_checkpoint(model, weights, {"ablation": variant.name, "seed": recipe.seed, **facts})
    checkpoint.unlink(missing_ok=True)  # several times the weights, and done with
