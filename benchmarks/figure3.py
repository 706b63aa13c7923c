"""Draw time per click over the number of clicks, like figure 3 of the paper, from measured rows.

    python benchmarks/latency.py --preset lite --clicks 1,10,50,100,200 --json | tail -1 > lite.json
    python benchmarks/figure3.py lite.json [more.json ...] [--output docs/images/time-per-click.png]

Both axes are of one machine and one run per file; the paper's own values (17 ms at 1 click, 34 ms
at 200 on an RTX 3090, Swin-T) belong to another machine and are not drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "time-per-click.png"
#: Field of a row, its name in the figure, line style.
SERIES = (
    ("straightforward_ms", "published order", ":"),
    ("exact_ms", "exact", "--"),
    ("ours_ms", "as used", "-"),
)
#: Distinguishable with colour-blind vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def draw(runs: list[dict[str, Any]]) -> Any:
    """Return a figure with one colour per preset and one line style per way of computing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for colour, run in zip(COLOURS, runs, strict=False):
        rows = sorted(run["rows"], key=lambda row: row["clicks"])
        for field, label, style in SERIES:
            points = [(row["clicks"], row[field]) for row in rows if field in row]
            if points:
                name = f"{rows[0]['preset']}, {label}"
                axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", label=name)
    heights = [
        row[field] for run in runs for row in run["rows"] for field, *_ in SERIES if field in row
    ]
    if max(heights) > 10 * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("clicks")
    kind = "processor time" if any(run.get("cpu_time") for run in runs) else "time"
    axes.set_ylabel(f"{kind} per click (ms)")
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="+", type=Path, help="last lines of latency.py --json")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    runs = [json.loads(p.read_text(encoding="utf-8").splitlines()[-1]) for p in arguments.rows]
    draw(runs).savefig(arguments.output)
    print(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
