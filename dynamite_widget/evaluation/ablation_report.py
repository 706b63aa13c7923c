"""Tables of an ablation: JSON, CSV, Markdown, and one HTML page beside the published numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import figures
from .ablation import METRICS, AblationSettings, Row
from .page import note, page, plain, table
from .published import PUBLISHED_ABLATION
from .records import write_atomically

_DIGITS = {"NCI": 2, "NFO": 1, "NFI": 1, "IoU": 3}
_PUBLISHED = {row.variant: row for row in PUBLISHED_ABLATION}


def write_ablation(settings: AblationSettings, rows: Sequence[Row], out: str | Path) -> Path:
    """Write ``ablation.json``, ``.csv``, ``.md`` and ``index.html``; return the page's path."""
    out = Path(out)
    content = {"settings": settings.identity(), "rows": [_plain_row(row) for row in rows]}
    write_atomically(out / "ablation.json", json.dumps(plain(content), indent=1) + "\n")
    write_atomically(out / "ablation.csv", _csv(rows))
    write_atomically(out / "ablation.md", format_ablation(rows) + "\n")
    target = out / "index.html"
    write_atomically(target, _page(settings, rows))
    return target


def format_ablation(rows: Sequence[Row]) -> str:
    """Return the table as Markdown: mean ± standard deviation over the repeats."""
    header = ["variant", "repeats", *METRICS, "NCI - full", "parameters", "train min"]
    lines = [header, ["---"] * len(header), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row) -> list[str]:
    return [
        row.variant.title,
        str(row.repeats),
        *(_told(row.means[m], row.deviations[m], _DIGITS[m]) for m in METRICS),
        _told(row.differences["NCI"], row.difference_deviations["NCI"], 2, sign=True),
        f"{row.parameters / 1e6:.2f} M",
        f"{row.minutes:.1f}",
    ]


def _told(mean: float | None, deviation: float | None, digits: int, sign: bool = False) -> str:
    if mean is None:
        return "-"
    text = f"{mean:+.{digits}f}" if sign else f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"


def _plain_row(row: Row) -> dict[str, Any]:
    published = _PUBLISHED.get(row.variant.title)
    return {
        "variant": row.variant.name,
        "title": row.variant.title,
        "changes": dict(row.variant.changes),
        "repeats": row.repeats,
        "mean": dict(row.means),
        "standard deviation": dict(row.deviations),
        "difference to full": dict(row.differences),
        "its standard deviation": dict(row.difference_deviations),
        "values": {name: list(values) for name, values in row.values.items()},
        "parameters": row.parameters,
        "minutes": row.minutes,
        "published": None
        if published is None
        else {
            "NCI": published.nci,
            "NFO": published.nfo,
            "NFI": published.nfi,
            "source": published.source,
        },
    }


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{metric} {part}" for metric in METRICS for part in ("mean", "sd")]
    writer.writerow(["variant", "title", "repeats", *names, "NCI difference", "parameters"])
    for row in rows:
        numbers = [v for m in METRICS for v in (row.means[m], row.deviations[m])]
        writer.writerow(
            [
                row.variant.name,
                row.variant.title,
                row.repeats,
                *(_csv_number(value) for value in numbers),
                _csv_number(row.differences["NCI"]),
                row.parameters,
            ]
        )
    return text.getvalue()


def _csv_number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _page(settings: AblationSettings, rows: Sequence[Row]) -> str:
    recipe = settings.recipe
    title = f"Ablation of {recipe.preset}"
    header = ["variant", "repeats", *METRICS, "NCI - full", "parameters", "train min"]
    header += ["published NCI / NFO / NFI"]
    measured = [(_kind(row), [*_cells(row), _published(row.variant.title)]) for row in rows]
    changed = _changes(settings.model_changes)
    limit = "all" if settings.limit is None else str(settings.limit)
    rules = (
        f"Each network saw {recipe.steps * recipe.batch_size} crops "
        f"({recipe.batch_size} per step){changed}; the same crops for all variants of a repeat, "
        f"seeds from {recipe.seed}. Then all objects of {limit} pictures of {settings.data} were "
        f"clicked: strategy {settings.strategy}, success at IoU >= {settings.iou_threshold:g}, "
        f"{settings.budget} clicks per object."
    )
    source = (
        f"Published: {PUBLISHED_ABLATION[0].source}; Swin-T trained in full, SBD, mean of "
        "three runs. Other network, data and training: compare directions, not numbers."
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        note(rules),
        table(header, measured),
        note("Mean ± sample standard deviation over the repeats; NCI - full is paired by seed."),
        note(source),
        "<h2>Clicks per object</h2>",
        figures.plot_ablation([(row.variant.title, row.values["NCI"]) for row in rows]),
    ]
    return page(title, parts)


def _kind(row: Row) -> str:
    return "measured" if not row.variant.changes else ""


def _published(title: str) -> str:
    row = _PUBLISHED.get(title)
    return "-" if row is None else f"{row.nci:.2f} / {row.nfo} / {row.nfi}"


def _changes(changes: Mapping[str, Any]) -> str:
    if not changes:
        return ""
    return "; all networks with " + ", ".join(f"{k} = {v}" for k, v in changes.items())
