"""``dynamite ablate``: train the switches of the paper's Table 3 briefly and compare them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import DataError
from .ablation import VARIANTS, AblationSettings, Row, run_ablation
from .ablation_report import format_ablation, write_ablation
from .arguments import fraction, positive, threshold
from .strategies import STRATEGIES


def add_parser(subparsers: Any) -> None:
    """Add the ``ablate`` sub command."""
    parser = subparsers.add_parser(
        "ablate",
        help="train the network's switches briefly and compare them",
        description="Train the network with one part switched off at a time, briefly and several "
        "times, and compare the clicks per object that it needs. A run that was interrupted goes "
        "on where it stopped; more variants or repeats may be asked for later.",
        epilog="variants:\n"
        + "\n".join(f"  {v.name:18} {v.title} {dict(v.changes) or ''}" for v in VARIANTS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of results and tables")
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with train.json[.gz], val.json[.gz] and the pictures, as files or in *.tar",
    )
    data.add_argument("--annotations", type=Path, nargs="+", default=[], metavar="FILE")
    data.add_argument("--images", type=Path, nargs="+", default=[], metavar="DIR|TAR")
    data.add_argument(
        "--evaluate-on",
        metavar="KIND:PATH[:PATH]",
        help="as --data of `dynamite evaluate` (default: val.json of --data)",
    )
    what = parser.add_argument_group("what is trained")
    what.add_argument("--preset", default="lite")
    what.add_argument(
        "--variants", nargs="+", choices=tuple(VARIANTS), metavar="NAME", help="default: Table 3"
    )
    what.add_argument("--repeats", type=positive, default=3, metavar="N", help="default: 3")
    what.add_argument(
        "--samples", type=positive, default=4000, metavar="N", help="crops per run (default: 4000)"
    )
    what.add_argument("--batch-size", type=positive, metavar="N")
    what.add_argument("--seed", type=int, help="of the first repeat")
    what.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="recipe")
    what.add_argument(
        "--set-model", action="append", default=[], metavar="FIELD=VALUE", help="all networks"
    )
    what.add_argument("--backbone", type=Path, metavar="FILE", help="ImageNet state dict")
    what.add_argument("--no-pretrained", action="store_true", help="start the backbone at random")
    rules = parser.add_argument_group("how it is measured (protocol mist)")
    rules.add_argument("--strategy", choices=STRATEGIES, default="random")
    rules.add_argument("--iou", type=threshold, default=0.85, metavar="F", help="default: 0.85")
    rules.add_argument("--budget", type=positive, default=10, metavar="N", help="clicks per object")
    rules.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="pictures (default: 50)"
    )
    rules.add_argument("--min-area", type=fraction, default=0.0, metavar="F")
    how = parser.add_argument_group("how")
    how.add_argument("--workers", type=int, default=1, help="processes that make samples")
    how.add_argument("--threads", type=positive, help="threads of the network on a CPU")
    how.add_argument("--device", default="auto", help="of the evaluation")
    how.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    import torch

    from ..training.data import open_dataset

    if args.threads:
        torch.set_num_threads(args.threads)
    annotations, images, evaluate_on = _places(args)
    try:
        settings = _settings(args, evaluate_on)
        data = open_dataset(
            annotations=annotations, images=images, source_weights=settings.recipe.source_weights
        )

        def keep(rows: list[Row]) -> None:
            write_ablation(settings, rows, args.out)

        rows = run_ablation(
            settings,
            data,
            args.out,
            variants=args.variants,
            repeats=args.repeats,
            workers=args.workers,
            progress=not args.quiet,
            on_cell=keep,
        )
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from error
    # The table is the output of this command, not a message about it.
    print(format_ablation(rows))
    print(f"tables: {args.out / 'index.html'}")
    return 0


def _places(args: argparse.Namespace) -> tuple[list[Path], list[Path], str]:
    annotations, images, evaluate_on = list(args.annotations), list(args.images), args.evaluate_on
    if args.data is not None:
        annotations = annotations or [_beside(args.data, "train")]
        images = images or [args.data]
        evaluate_on = evaluate_on or f"coco:{_beside(args.data, 'val')}:{args.data}"
    if not annotations:
        raise DataError("give --data DIR, or --annotations FILE")
    if evaluate_on is None:
        raise DataError("give --evaluate-on KIND:PATH, or --data DIR with val.json")
    return annotations, images or [path.parent for path in annotations], evaluate_on


def _beside(folder: Path, name: str) -> Path:
    for ending in (".json.gz", ".json"):
        if (folder / (name + ending)).is_file():
            return folder / (name + ending)
    raise DataError(f"--data: no {name}.json or {name}.json.gz in {str(folder)!r}")


def _settings(args: argparse.Namespace, evaluate_on: str) -> AblationSettings:
    from ..model.config import get_config
    from ..training.config import parse_value
    from ..training.recipes import get_recipe

    recipe = get_recipe(args.preset)
    changes = [f"samples={args.samples}"]
    for name in ("batch_size", "seed"):
        if getattr(args, name) is not None:
            changes.append(f"{name}={getattr(args, name)}")
    # A warm-up made for long runs would fill a short one.
    warmup = min(recipe.optimiser.warmup_samples, args.samples // 10)
    changes.append(f"optimiser.warmup_samples={warmup}")
    fields = get_config(args.preset).to_dict()
    model_changes = {}
    for assignment in args.set_model:
        name, _, text = assignment.partition("=")
        if name not in fields:
            raise ValueError(f"--set-model: the network has no field {name!r}")
        model_changes[name] = parse_value(text)
    return AblationSettings(
        recipe.override([*changes, *args.set]),
        evaluate_on,
        model_changes,
        pretrained=not args.no_pretrained,
        backbone=args.backbone,
        strategy=args.strategy,
        iou_threshold=args.iou,
        budget=args.budget,
        limit=args.limit,
        min_area_fraction=args.min_area,
        device=args.device,
        threads=args.threads,
    )
