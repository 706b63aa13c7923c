"""The report of an annotated set: one HTML page with plots, without outside references."""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..session_json import write_atomically
from .comparison import Agreement, conflict_table
from .timing import duration

if TYPE_CHECKING:
    from .effort import Statistics
    from .results import SetResults

MAX_ROWS = 200
MAX_CLASSES = 30
_BLUE, _ORANGE = "#0072b2", "#d55e00"  # told apart also by colour-blind people
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem;
       color: #1b1b1b; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: left; }
td.n { text-align: right; } .note { color: #555; } .scroll { overflow-x: auto; }
img { max-width: 100%; height: auto; }
"""
_EXPLAINED = """<p class=note>Seconds of an instance are those between an edit of it and the edit
before; the time of a picture includes looking. Breaks count one minute at most.</p>"""


def write_report(path: Path, annotator: SetResults, agreement: Agreement | None) -> Path:
    """Write the page and return its path; see `SetResults.report`."""
    statistics = annotator.statistics()
    summary = statistics.summary
    folder = annotator.store.folder
    parts = [
        f"<h1>Annotation of {html.escape(folder.resolve().name)}</h1>",
        f"<p class=note>{time.strftime('%Y-%m-%d %H:%M')}</p>",
        f"<p>{html.escape(str(annotator.progress))}</p>",
        _table(
            ["", ""],
            [
                ("pictures dealt with", f"{summary['pictures']:.0f}"),
                ("instances", f"{summary['instances']:.0f}"),
                ("time", duration(summary["seconds"])),
                ("seconds per instance, mean", f"{summary['seconds per instance']:.1f}"),
                ("seconds per instance, median", f"{summary['median seconds per instance']:.1f}"),
                ("clicks per instance", f"{summary['clicks per instance']:.2f}"),
                ("edits per instance", f"{summary['edits per instance']:.2f}"),
            ],
        ),
        _EXPLAINED,
    ]
    if statistics.pictures:
        parts += ["<h2>Over time</h2>", _figure(_plot_time, statistics)]
    if statistics.instances:
        parts += [
            "<h2>Effort per instance</h2>",
            _figure(_plot_effort, statistics),
            "<h2>Classes</h2>",
            _table(
                ["class", "instances", "seconds", "clicks", "edits"],
                [
                    (
                        row.class_name,
                        row.instances,
                        f"{row.seconds:.1f}",
                        f"{row.clicks:.2f}",
                        f"{row.edits:.2f}",
                    )
                    for row in statistics.classes[:MAX_CLASSES]
                ],
            ),
        ]
    parts += _lists(annotator)
    if agreement is not None:
        rows = [(name, f"{value:.3g}") for name, value in agreement.summary.items()]
        parts += [
            "<h2>Agreement with the other annotator</h2>",
            _table(["", ""], rows),
            f"<div class=scroll>{conflict_table(agreement.conflicts, MAX_ROWS)}</div>",
        ]
    title = html.escape(f"Annotation of {folder.resolve().name}")
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style>{''.join(parts)}</html>"
    )
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def _lists(annotator: SetResults) -> list[str]:
    parts = []
    flagged = [(k, r.status, r.note) for k, r in annotator.store.items() if r.flagged]
    skipped = [(k, r.note) for k, r in annotator.store.items() if r.status == "skipped"]
    unreadable = list(annotator.unreadable.items())
    for title, head, rows in (
        ("Flagged", ["picture", "status", "note"], flagged),
        ("Skipped", ["picture", "note"], skipped),
        ("Unreadable", ["picture", "reason"], unreadable),
    ):
        if rows:
            more = f"<p>… {len(rows) - MAX_ROWS} more</p>" if len(rows) > MAX_ROWS else ""
            table = _table(head, rows[:MAX_ROWS])
            parts.append(f"<h2>{title}</h2><div class=scroll>{table}</div>{more}")
    return parts


def _table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    def cell(value: Any) -> str:
        kind = " class=n" if isinstance(value, (int, float)) or _is_number(value) else ""
        return f"<td{kind}>{html.escape(str(value))}</td>"

    top = "".join(f"<th>{html.escape(name)}</th>" for name in head) if any(head) else ""
    body = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{body}</table>"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _figure(plot: Any, statistics: Statistics) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    text = plot(figure, statistics)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _plot_time(figure: Any, statistics: Statistics) -> str:
    left, right = figure.subplots(1, 2)
    rows = statistics.pictures
    hours = np.cumsum([row.seconds for row in rows]) / 3600
    unit, scale = ("hours", 1.0) if hours[-1] >= 1 else ("minutes", 60.0)
    left.plot([0, *hours * scale], [0, *np.cumsum([r.instances for r in rows])], color=_BLUE)
    left.set_xlabel(f"{unit} of work")
    left.set_ylabel("instances")
    worked = [row for row in rows if row.instances and row.seconds > 0]
    speed = [row.seconds / row.instances for row in worked]
    right.plot(range(1, len(speed) + 1), speed, ".", color=_BLUE, alpha=0.5, label="picture")
    window = max(1, min(20, len(speed) // 3))
    if len(speed) >= 3:
        smooth = np.convolve(speed, np.ones(window) / window, "valid")
        right.plot(
            np.arange(window, len(speed) + 1), smooth, color=_ORANGE, label=f"mean of {window}"
        )
        right.legend(fontsize=8)
    right.set_xlabel("pictures, in the order of work")
    right.set_ylabel("seconds per instance")
    right.set_ylim(bottom=0)
    return "Instances over the time of work; seconds per instance, picture by picture"


def _plot_effort(figure: Any, statistics: Statistics) -> str:
    left, right = figure.subplots(1, 2)
    rows = statistics.instances
    left.hist([row.seconds for row in rows], bins=30, color=_BLUE)
    left.set_xlabel("seconds per instance")
    left.set_ylabel("instances")
    most = max(max(row.clicks for row in rows), 1)
    counts = np.bincount([row.clicks for row in rows], minlength=most + 1)
    right.bar(np.arange(most + 1), counts, color=_BLUE)
    right.set_xlabel("clicks per instance")
    right.set_ylabel("instances")
    return "How many seconds and clicks the instances took"
