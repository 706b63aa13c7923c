"""Measure a checkpoint by both protocols beside the classical baselines, for the model card.

    python benchmarks/evaluate_lite.py DATA OUT [--checkpoint FILE] [--limit N] [--workers N]

DATA is a data set as `dynamite evaluate` takes it. Baselines already in OUT are not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynamite_widget.evaluation.report import format_summary, write_report
from dynamite_widget.evaluation.runner import RunSettings, run_evaluation

BUDGETS = {"noc": 20, "mist": 10}


def main() -> None:
    """Run what is missing and print one summary per run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--checkpoint")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--min-area", type=float, default=0.005)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--baselines", nargs="*", default=["grabcut", "watershed"])
    args = parser.parse_args()
    for protocol, budget in BUDGETS.items():
        folders: list[Path] = []
        for baseline in [*args.baselines, None]:
            settings = RunSettings(
                args.data,
                protocol,
                model=args.model,
                checkpoint=None if baseline else args.checkpoint,
                baseline=baseline,
                budget=budget,
                # so that IoU after the fifth click is one over all objects
                min_clicks=5 if protocol == "noc" else 1,
                iou_threshold=0.85,
                min_area_fraction=args.min_area,
                limit=args.limit,
            )
            name = baseline or Path(args.checkpoint or args.model).stem
            folder = args.out / f"{name}-{protocol}"
            result = run_evaluation(settings, folder, workers=args.workers, progress=True)
            write_report(result, folder, compare=folders if baseline is None else ())
            folders.append(folder)
            print(format_summary(result), end="\n\n")


if __name__ == "__main__":
    main()
