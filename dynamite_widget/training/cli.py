"""``dynamite train``: arguments, data, start weights, and the run."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamite_widget.errors import DataError, DynaMITeError

logger = logging.getLogger(__name__)

# Large steps on a CPU spend half their time in page faults with glibc's defaults; these make it
# keep the memory it has. They only count when set before the process starts.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
_STARTED_AGAIN = "DYNAMITE_WIDGET_MALLOC_SET"


def _arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with train.json[.gz], val.json[.gz] and the pictures, as files or in *.tar",
    )
    data.add_argument(
        "--annotations",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="COCO- or LVIS-format file; several are merged picture by picture",
    )
    data.add_argument("--images", type=Path, nargs="+", default=[], metavar="DIR|TAR")
    data.add_argument("--val-annotations", type=Path, metavar="FILE")
    data.add_argument("--val-images", type=Path, nargs="+", default=[], metavar="DIR|TAR")
    data.add_argument(
        "--on-problem",
        choices=("skip", "refuse"),
        default="skip",
        help="unusable annotations, empty masks and missing pictures: skip (and say so) or refuse",
    )
    what = parser.add_argument_group("what is trained")
    what.add_argument("--preset", default="lite", help="network and its recipe (default: lite)")
    what.add_argument(
        "--finetune",
        type=Path,
        metavar="FILE",
        help="fine-tune trained weights on this file; pictures from --images or beside it",
    )
    what.add_argument("--init", type=Path, metavar="FILE", help="start from these weights")
    what.add_argument(
        "--backbone", type=Path, metavar="FILE", help="ImageNet state dict to start from"
    )
    what.add_argument("--no-pretrained", action="store_true", help="start the backbone at random")
    what.add_argument("--samples", type=int, help="planned number of crops")
    what.add_argument("--batch-size", type=int, help="crops per step, over all processes")
    what.add_argument("--seed", type=int)
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change the recipe, e.g. optimiser.learning_rate=3e-4",
    )
    what.add_argument(
        "--set-model", action="append", default=[], metavar="FIELD=VALUE", help="change the network"
    )
    run = parser.add_argument_group("the run")
    run.add_argument("--output", type=Path, help="folder of the run (default: runs/PRESET)")
    run.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    run.add_argument("--minutes", type=float, help="stop this sitting after so many minutes")
    run.add_argument("--checkpoint-minutes", type=float, default=5.0)
    run.add_argument("--validate-minutes", type=float, default=15.0)
    run.add_argument("--val-pictures", type=int, default=60, help="0 switches validation off")
    run.add_argument("--report-steps", type=int, default=50)
    run.add_argument("--workers", type=int, default=1, help="processes that make samples")
    run.add_argument("--threads", type=int, help="threads of the network on a CPU")
    run.add_argument("--tensorboard", action="store_true")
    run.add_argument("--keep-malloc", action="store_true", help="leave the allocator's settings")


def add_parser(subparsers: Any) -> None:
    """Add the sub command to ``dynamite``."""
    parser = subparsers.add_parser(
        "train",
        help="train a network",
        description="Train or fine-tune a network on instance data in COCO or LVIS format.",
    )
    _arguments(parser)
    parser.set_defaults(run=run)


def _start_again_with_malloc() -> None:
    """Replace this process by itself with a better allocator environment (Linux only)."""
    if sys.platform != "linux" or os.environ.get(_STARTED_AGAIN):
        return
    if any(name in os.environ for name in _MALLOC) or "LOCAL_RANK" in os.environ:
        return
    # Only a process that was started to train may be replaced, never a program that calls us.
    if not any(a == "train" or a.endswith("dynamite_widget.training") for a in sys.orig_argv):
        return
    command = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, command, {**os.environ, **_MALLOC, _STARTED_AGAIN: "1"})


def _first(folder: Path, name: str) -> Path | None:
    for ending in (".json.gz", ".json"):
        if (folder / (name + ending)).is_file():
            return folder / (name + ending)
    return None


def _places(args: argparse.Namespace) -> tuple[list[Path], list[Path], Path | None, list[Path]]:
    """Annotation files, picture places, validation file and its picture places."""
    annotations, images = list(args.annotations), list(args.images)
    validation, validation_images = args.val_annotations, list(args.val_images)
    if args.finetune is not None:
        annotations, images = [args.finetune], images or [args.finetune.parent]
    if args.data is not None:
        if not args.data.is_dir():
            raise DataError(f"--data: {str(args.data)!r} is no folder")
        found = _first(args.data, "train")
        if found is None and not annotations:
            raise DataError(f"--data: no train.json or train.json.gz in {str(args.data)!r}")
        if found is not None and not annotations:
            annotations = [found]
        images = images or [args.data]
        validation = validation or _first(args.data, "val")
        validation_images = validation_images or [args.data]
    if not annotations:
        raise DataError("give --data DIR, --annotations FILE or --finetune FILE")
    images = images or [path.parent for path in annotations]
    validation_images = validation_images or images
    return annotations, images, validation, validation_images


def _recipe(args: argparse.Namespace) -> Any:
    from dynamite_widget.training.config import TrainConfig
    from dynamite_widget.training.recipes import finetuning, get_recipe

    stored = _folder(args) / "config.json"
    if args.resume and stored.is_file():
        recipe = TrainConfig.from_json(stored.read_text(encoding="utf-8"))
    else:
        recipe = get_recipe(args.preset)
        if args.finetune is not None:
            recipe = finetuning(recipe)
    changes = [
        f"{name}={getattr(args, name)}"
        for name in ("samples", "batch_size", "seed")
        if getattr(args, name) is not None
    ]
    if args.samples is not None:
        # A warm-up made for the recipe's own length would fill a short run.
        warmup = min(recipe.optimiser.warmup_samples, args.samples // 10)
        changes.append(f"optimiser.warmup_samples={warmup}")
    return recipe.override([*changes, *args.set])


def _folder(args: argparse.Namespace) -> Path:
    name = f"{args.preset}-finetuned" if args.finetune is not None else args.preset
    return Path(args.output) if args.output is not None else Path("runs") / name


def _start_model(args: argparse.Namespace, recipe: Any) -> Any:
    import torch

    from dynamite_widget.model.config import get_config
    from dynamite_widget.model.dynamite import build_model
    from dynamite_widget.training.config import parse_value
    from dynamite_widget.training.initialise import initialise_backbone, load_start_weights

    config = get_config(recipe.preset)
    for assignment in args.set_model:
        name, _, text = assignment.partition("=")
        if name not in config.to_dict():
            raise ValueError(f"--set-model: the network has no field {name!r}")
        config = config.replace(**{name: parse_value(text)})
    torch.manual_seed(recipe.seed)
    model = build_model(config)
    if args.resume:
        return model
    if args.init is not None or args.finetune is not None:
        load_start_weights(model, args.init)
    elif not args.no_pretrained:
        initialise_backbone(model, args.backbone)
    return model


def run(args: argparse.Namespace) -> int:
    """Train; return the exit status."""
    if not args.keep_malloc:
        _start_again_with_malloc()
    import torch

    from dynamite_widget.training.data import InstanceDataset, open_dataset, read_annotations
    from dynamite_widget.training.loop import Trainer
    from dynamite_widget.training.options import LoopOptions
    from dynamite_widget.training.pictures import PictureStore
    from dynamite_widget.training.report import write_report
    from dynamite_widget.training.validate import choose_examples

    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        recipe = _recipe(args)
        model = _start_model(args, recipe)
    except (TypeError, ValueError) as error:
        raise DataError(f"{error}") from error
    annotations, images, validation, validation_images = _places(args)
    data = open_dataset(
        annotations=annotations,
        images=images,
        source_weights=recipe.source_weights,
        on_problem=args.on_problem,
    )
    logger.info("%d pictures to train on", len(data))
    examples = []
    if validation is not None and args.val_pictures:
        pictures = read_annotations(validation, on_problem=args.on_problem)
        held_out = InstanceDataset(pictures, PictureStore(validation_images))
        examples = choose_examples(held_out, model.config, pictures=args.val_pictures)
    options = LoopOptions(
        _folder(args),
        resume=args.resume,
        minutes=args.minutes,
        checkpoint_minutes=args.checkpoint_minutes,
        validate_minutes=args.validate_minutes,
        report_steps=args.report_steps,
        workers=args.workers,
        tensorboard=args.tensorboard,
    )
    trainer = Trainer(model, data, recipe, options, examples)
    summary = trainer.run()
    if trainer.accelerator.is_main_process:
        path = write_report(options.folder, summary)
        logger.info("report: %s", path)
        # Validation writes weights of its own; without it these are the ones.
        weights = options.folder / ("best.safetensors" if examples else "last.safetensors")
        if not examples:
            _save_weights(trainer, weights)
        logger.info("weights: %s (load_model(%r, checkpoint=…))", weights, recipe.preset)
    return 0


def _save_weights(trainer: Any, path: Path) -> None:
    """Write the weights to publish (the moving average where there is one) of a finished run."""
    import dataclasses

    from dynamite_widget.model.weights_file import save_checkpoint

    trainer.model.load_state_dict(trainer.weights())
    facts = {
        "samples": trainer.step * trainer.config.batch_size,
        "recipe": dataclasses.asdict(trainer.config),
    }
    save_checkpoint(trainer.model, path, facts)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of ``python -m dynamite_widget.training``."""
    parser = argparse.ArgumentParser(prog="python -m dynamite_widget.training")
    _arguments(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return run(args)
    except DynaMITeError as error:
        logger.error("%s", error)
        return 2
    except KeyboardInterrupt:
        return 130
