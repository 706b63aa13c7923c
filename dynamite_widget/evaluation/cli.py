"""``dynamite evaluate``: measure a network, or a baseline, with robot clicks and write a report."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..errors import DataError
from .arguments import fraction, positive, threshold
from .datasets import DATASETS
from .report import format_summary, write_report
from .runner import RunSettings, record_files, run_evaluation
from .strategies import STRATEGIES

DEFAULT_IOU = {"noc": 0.90, "mist": 0.85}
DEFAULT_BUDGET = {"noc": 20, "mist": 10}


def add_parser(subparsers: Any) -> None:
    """Add the ``evaluate`` sub command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a network with robot clicks",
        description="Measure a network, or a classical baseline, with robot clicks: how many a "
        "person would need. A run that was interrupted goes on where it stopped.",
        epilog="data sets:\n  " + "\n  ".join(DATASETS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True, metavar="KIND:PATH[:PATH]", help="see below")
    parser.add_argument("--out", required=True, type=Path, help="folder of results and report")
    parser.add_argument(
        "--protocol",
        choices=("noc", "mist"),
        default="noc",
        help="noc: one object at a time; mist: all objects of a picture (default: noc)",
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument("--model", default="lite", help="preset (default: lite)")
    what.add_argument("--checkpoint", help="weights file (default: those of the preset)")
    what.add_argument(
        "--baseline",
        metavar="NAME",
        help="measure another method instead: grabcut, watershed, random-walker, disc, or "
        "sam:MODEL, a segment-anything model of Hugging Face by name or folder",
    )
    what.add_argument("--limit", type=positive, metavar="N", help="only N pictures, spread evenly")
    what.add_argument(
        "--min-area",
        type=fraction,
        default=0.0,
        metavar="F",
        help="objects below this fraction of their picture become background (default: 0)",
    )
    rules = parser.add_argument_group("rules")
    rules.add_argument(
        "--iou",
        type=threshold,
        metavar="F",
        help="an object is done at this IoU (default: 0.90 for noc, 0.85 for mist)",
    )
    rules.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        help="clicks per object (default: 20 for noc; 10 for mist, shared by the picture)",
    )
    rules.add_argument(
        "--strategy", choices=STRATEGIES, default="random", help="next object of mist"
    )
    rules.add_argument(
        "--min-clicks",
        type=positive,
        default=1,
        metavar="N",
        help="noc: place at least N clicks, so that IoU@N is not cut short (default: 1)",
    )
    rules.add_argument(
        "--annotator",
        choices=("robot", "human"),
        default="robot",
        help="human: noise around the ideal position, sometimes the second largest error",
    )
    rules.add_argument("--noise", type=float, default=0.5, help="of the human (default: 0.5)")
    rules.add_argument("--seed", type=int, default=0)
    rules.add_argument(
        "--reference",
        action="store_true",
        help="the published behaviour in degenerate cases, and one random stream for all pictures",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--workers", type=positive, default=1, help="processes (default: 1)")
    how.add_argument("--threads", type=positive, help="CPU threads per process")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    how.add_argument(
        "--compare",
        type=Path,
        nargs="*",
        default=[],
        metavar="DIR",
        help="folders of other runs to show beside this one",
    )
    how.add_argument(
        "--runtime",
        action=argparse.BooleanOptionalAction,
        help="measure time and memory over up to 200 clicks (default: of networks, not baselines)",
    )
    how.add_argument("--overwrite", action="store_true", help="forget what is in the folder")
    how.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    try:
        settings = _settings(args)
    except ValueError as error:
        raise DataError(str(error)) from error
    shard, wait = _shard()
    if shard[1] > 1 and args.device == "auto":
        settings = _on_own_device(settings)
    if args.overwrite and shard[0] == 0:
        for path in [*record_files(args.out), args.out / "run.json"]:
            path.unlink(missing_ok=True)
    if wait is not None:
        wait()  # nobody may start before the folder is clean
    result = run_evaluation(
        settings,
        args.out,
        workers=args.workers,
        shard=shard,
        progress=not args.quiet and shard[0] == 0,
        wait=wait,
    )
    if shard[0] == 0:
        runtime = args.baseline is None if args.runtime is None else args.runtime
        page = write_report(result, args.out, compare=args.compare, runtime=runtime)
        # The table is the output of this command, not a message about it.
        print(format_summary(result))
        print(f"report: {page}")
    return 0 if not result.errors else 1


def _settings(args: argparse.Namespace) -> RunSettings:
    return RunSettings(
        data=args.data,
        protocol=args.protocol,
        model=args.model,
        checkpoint=args.checkpoint,
        baseline=args.baseline,
        strategy=args.strategy,
        iou_threshold=DEFAULT_IOU[args.protocol] if args.iou is None else args.iou,
        budget=DEFAULT_BUDGET[args.protocol] if args.budget is None else args.budget,
        min_clicks=args.min_clicks,
        min_area_fraction=args.min_area,
        limit=args.limit,
        annotator=args.annotator,
        noise=args.noise,
        seed=args.seed,
        reference=args.reference,
        device=args.device,
        threads=args.threads,
    )


def _shard() -> tuple[tuple[int, int], Callable[[], None] | None]:
    """Return this process's share under ``accelerate launch``, and the barrier of all."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count <= 1:
        return (0, 1), None
    import torch
    from accelerate import PartialState

    # Without `cpu` accelerate ignores the other processes of a machine that has no accelerator.
    # The barrier at the end waits for the slowest share, which may be hours behind.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
    if state.num_processes != count:
        raise DataError(
            f"{count} processes were launched but accelerate joined {state.num_processes}; start "
            "with `accelerate launch --multi_gpu`, or with torchrun on CPUs"
        )
    return (state.process_index, state.num_processes), state.wait_for_everyone


def _on_own_device(settings: RunSettings) -> RunSettings:
    from dataclasses import replace

    from accelerate import PartialState

    return replace(settings, device=str(PartialState().device))
