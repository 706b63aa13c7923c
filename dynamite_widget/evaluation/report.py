"""The report of a run: report.json, samples.csv, and one HTML page without outside references."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from . import figures
from .page import note, number, page, plain, table
from .published import (
    PUBLISHED_ABLATION,
    PUBLISHED_MIST,
    PUBLISHED_NOC,
    PUBLISHED_RUNTIME,
)
from .records import write_atomically
from .runner import RunResult, load_settings_predictor, open_run_data

logger = logging.getLogger(__name__)

MAX_CLASSES = 30
"""Rows of the table of classes; report.json has all."""


def write_report(
    result: RunResult,
    out: str | Path,
    *,
    compare: Sequence[str | Path] = (),
    runtime: bool = False,
    pictures: int = 4,
) -> Path:
    """Write ``report.json``, ``samples.csv`` and ``index.html`` and return the path of the page.

    Parameters
    ----------
    result : RunResult
    out : path
    compare : sequence of path
        Folders of finished runs to show beside this one.
    runtime : bool
        Measure seconds and memory over the number of clicks (takes a minute or more).
    pictures : int
        Worst and best pictures that are drawn, of each; their clicks are predicted again.
    """
    out = Path(out)
    others = [_read_other(Path(folder)) for folder in compare]
    content = {
        "settings": asdict(result.settings),
        "name": result.settings.name,
        "dataset": result.dataset,
        "pictures": result.pictures,
        "errors": result.errors,
        "summary": result.summary,
        "curve": figures.iou_curve(result.records),
    }
    predictor = None
    if result.records and (pictures or runtime):
        predictor = load_settings_predictor(result.settings)
    if runtime and predictor is not None:
        from .runtime import measure_runtime

        image = open_run_data(result.settings)[0].image
        content["runtime picture"] = f"{image.shape[1]}x{image.shape[0]}"
        content["runtime"] = [asdict(row) for row in measure_runtime(predictor, image)]
    write_atomically(out / "report.json", json.dumps(plain(content), indent=2) + "\n")
    write_atomically(out / "samples.csv", _csv(result.records))
    drawn: list[tuple[str, str]] = []
    if predictor is not None and pictures:
        drawn = figures.draw_extremes(result, predictor, count=pictures)
    target = out / "index.html"
    write_atomically(target, _page(result, content, others, drawn))
    return target


def format_summary(result: RunResult) -> str:
    """Return the main numbers as text."""
    settings, summary = result.settings, result.summary
    names = _columns(settings.protocol, summary)
    lines = [
        f"{settings.name} on {result.dataset}, {settings.protocol}, {result.pictures} pictures",
        " ".join(f"{name:>10}" for name in ["", *names]),
    ]
    rows = {"all": summary}
    if len(summary.get("sources", {})) > 1:
        rows["by source"] = summary["mean over sources"]
    for title, row in rows.items():
        cells = [number(row.get(name)) for name in names]
        lines.append(" ".join(f"{cell:>10}" for cell in [title, *cells]))
    if result.errors:
        lines.append(f"skipped pictures: {len(result.errors)}")
    return "\n".join(lines)


def _columns(protocol: str, summary: Mapping[str, Any]) -> list[str]:
    if protocol == "mist":
        return ["images", "objects", "NCI", "NFO", "failed", "NFI", "IoU initial", "IoU"]
    kinds = ("NoC@", "NFO@", "failed@", "IoU@")
    names = [n for n in summary if n.startswith(kinds) and "interval" not in n]
    return ["samples", *names]


def _read_other(folder: Path) -> dict[str, Any]:
    from ..errors import DataError

    path = folder / "report.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"no report to compare with at {str(path)!r}: {error}") from error
    return content


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if records and "ious" in records[0]:
        writer.writerow(
            ["key", "source", "class", "area_fraction", "clicks", "final_iou", "stopped", "ious"]
        )
        for r in records:
            final = r["ious"][-1] if r["ious"] else ""
            ious = " ".join(f"{value:.4f}" for value in r["ious"])
            row = [r["key"], r["source"], r["class_name"], r["area_fraction"]]
            writer.writerow([*row, len(r["ious"]), final, r["stopped"], ious])
    else:
        writer.writerow(["key", "source", "objects", "clicks", "mean_iou", "stopped", "ious"])
        for r in records:
            mean = sum(r["final_ious"]) / max(len(r["final_ious"]), 1)
            ious = " ".join(f"{value:.4f}" for value in r["final_ious"])
            row = [r["key"], r["source"], r["n_objects"], r["n_clicks"], f"{mean:.4f}"]
            writer.writerow([*row, r["stopped"], ious])
    return text.getvalue()


def _page(
    result: RunResult,
    content: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]],
    drawn: Sequence[tuple[str, str]],
) -> str:
    settings, summary = result.settings, result.summary
    protocol = "single instance (NoC)" if settings.protocol == "noc" else "multi-instance (MIST)"
    title = f"{settings.name} on {result.dataset}, {protocol}"
    names = _columns(settings.protocol, summary)
    everything = [content, *others]
    same = [o for o in everything if o["settings"]["protocol"] == settings.protocol]
    measured = [
        (
            _kind(o),
            [f"{o['name']} ({o['dataset']})", *(number(o["summary"].get(n)) for n in names)],
        )
        for o in same
    ]
    means = [
        ("", [f"{o['name']}, mean over sources", *(number(mean.get(n)) for n in names)])
        for o in same
        if len(o["summary"].get("sources") or {}) > 1
        and (mean := o["summary"].get("mean over sources"))
    ]
    parts = [
        f"<h1>{escape(title)}</h1>",
        note(_rules(result)),
        "<h2>Measured</h2>",
        table(["measured", *names], [*measured, *means]),
        *_intervals(summary),
        *_figures(result, content, same),
        *_breakdowns(summary, names),
        *(
            ["<h2>Worst and best pictures</h2>"]
            + [f"<figure>{svg}<figcaption>{escape(t)}</figcaption></figure>" for t, svg in drawn]
            if drawn
            else []
        ),
        *_published(settings.protocol, result, summary),
        *_errors(result),
    ]
    return page(title, parts)


def _intervals(summary: Mapping[str, Any]) -> list[str]:
    told = [
        f"{name.removesuffix(' interval')} {value[0]:.2f} - {value[1]:.2f}"
        for name, value in summary.items()
        if name.endswith(" interval")
    ]
    text = f"95 % bootstrap intervals of this run's means: {'; '.join(told)}."
    return [note(text)]


def _kind(content: Mapping[str, Any]) -> str:
    return "measured" if content["settings"].get("baseline") is None else ""


def _rules(result: RunResult) -> str:
    s = result.settings
    text = f"{result.pictures} pictures; success at IoU >= {s.iou_threshold:g}; "
    if s.protocol == "noc":
        text += f"{s.budget} clicks per object at most; NoC@q counts {s.budget} for failures; "
        text += "IoU@k keeps the last value of runs that stopped before; "
    else:
        text += f"{s.budget} clicks per object, shared by the picture; strategy {s.strategy}; "
    if s.min_area_fraction:
        text += f"objects of at least {s.min_area_fraction:.2%} of their picture; "
    if s.annotator == "human":
        text += f"human-like clicks (noise {s.noise:g}); "
    return text + f"seed {s.seed}."


def _figures(
    result: RunResult, content: Mapping[str, Any], same: Sequence[Mapping[str, Any]]
) -> list[str]:
    if not result.records:
        return ["<p>No object was evaluated.</p>"]
    curves = {f"{o['name']} ({o['dataset']})": o.get("curve") or [] for o in same}
    parts = ["<h2>IoU over clicks</h2>", figures.plot_curves(curves, result.settings.protocol)]
    if result.settings.protocol == "noc":
        parts += ["<h2>Clicks needed</h2>", figures.plot_histogram(result)]
    else:
        parts += ["<h2>Clicks per object</h2>", figures.plot_ratio_histogram(result)]
    parts += ["<h2>Time per click</h2>", figures.plot_seconds(result.records)]
    embed = result.summary["seconds to embed"]
    parts.append(
        f'<p class="note">Mean {result.summary["seconds per click"] * 1000:.0f} ms per click, '
        f"{embed * 1000:.0f} ms to embed a picture, as measured during the run (other processes "
        "and workers share the machine).</p>"
    )
    if content.get("runtime"):
        parts += ["<h2>Time and memory over the number of clicks</h2>"]
        parts += [figures.plot_runtime(content["runtime"])]
        parts.append(
            note(
                f"One picture of {content['runtime picture']} pixels, five instances and background"
                ", after the run; median of three predictions, and the peak of the whole process "
                "(of the GPU where there is one)."
            )
        )
        parts.append(note(f"published: {'; '.join(PUBLISHED_RUNTIME)}"))
    return parts


def _breakdowns(summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    parts = []
    for field, title in (
        ("sources", "Source"),
        ("sizes", "Size of the object"),
        ("classes", "Class"),
    ):
        groups = dict(summary.get(field) or {})
        if len(groups) < 2:
            continue
        if field == "classes":
            frequent = sorted(groups, key=lambda name: -groups[name]["samples"])[:MAX_CLASSES]
            if len(frequent) < len(groups):
                title = f"Class (the {MAX_CLASSES} most frequent of {len(groups)})"
            groups = {name: groups[name] for name in frequent}
        rows = [
            ("", [group, *(number(row.get(n)) for n in names)]) for group, row in groups.items()
        ]
        if field == "sources":
            mean = summary["mean over sources"]
            rows.append(("measured", ["mean over sources", *(number(mean.get(n)) for n in names)]))
        parts += [f"<h2>By {escape(title.lower())}</h2>", table([title, *names], rows)]
    return parts


def _published(protocol: str, result: RunResult, summary: Mapping[str, Any]) -> list[str]:
    known_rows = PUBLISHED_NOC if protocol == "noc" else PUBLISHED_MIST
    known = any(row.dataset == result.dataset for row in known_rows)
    remark = (
        "Published numbers, none of them measured here."
        if known
        else f"Published numbers, none of them measured here, and none on {result.dataset!r}: they "
        "show the range of the literature, not a comparison."
    )
    parts = ["<h2>Published</h2>", note(remark)]
    name = f"{result.settings.name} (measured)"
    key: tuple[str, ...]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    if protocol == "noc":
        key, told = ("method", "published in"), "NoC@85 / NoC@90, in clicks."
        own = _clicks_pair(summary.get("NoC@85"), summary.get("NoC@90"))
        measured = [name, "this run"]
        for r in PUBLISHED_NOC:
            row = rows.setdefault((f"{r.method} {r.backbone}", r.source), {})
            row[r.dataset] = _clicks_pair(r.noc85, r.noc90)
    else:
        key = ("method", "strategy", "published in")
        told = "NCI / NFO / NFI / mean IoU in percent; IoU 85 %, ten clicks per object."
        own = _mist_cell(summary["NCI"], summary["NFO"], summary["NFI"], 100 * summary["IoU"])
        measured = [name, result.settings.strategy, "this run"]
        for m in PUBLISHED_MIST:
            row = rows.setdefault((f"{m.method} {m.backbone}", m.strategy or "-", m.source), {})
            row[m.dataset] = _mist_cell(m.nci, m.nfo, m.nfi, m.iou)
    # Beside a set that others measured too only that one; otherwise all, as the paper prints them.
    columns = [result.dataset]
    if not known:
        columns += dict.fromkeys(dataset for row in rows.values() for dataset in row)
    texts = [own if column == result.dataset else "" for column in columns]
    lines = [("measured", [*measured, *texts])]
    for title, cells in rows.items():
        if any(column in cells for column in columns):
            texts = [cells.get(c, "-" if known or c != result.dataset else "") for c in columns]
            lines.append(("published", [*title, *texts]))
    parts += [note(told), table([*key, *columns], lines)]
    if protocol == "mist":
        ablation = [
            ("published", [r.variant, f"{r.nci:.2f}", str(r.nfo), str(r.nfi), r.source])
            for r in PUBLISHED_ABLATION
        ]
        parts += [
            note("Ablation, Swin-T, SBD (the command dynamite ablate trains these switches):"),
            table(["variant", "NCI", "NFO", "NFI", "published in"], ablation),
        ]
    return parts


def _clicks_pair(low: float | None, high: float | None) -> str:
    return " / ".join("-" if value is None else f"{value:.2f}" for value in (low, high))


def _mist_cell(nci: float, nfo: int, nfi: int, iou: float) -> str:
    return f"{nci:.2f} / {nfo} / {nfi} / {iou:.1f}"


def _errors(result: RunResult) -> list[str]:
    if not result.errors:
        return []
    rows = [("", [key, message]) for key, message in result.errors.items()]
    return ["<h2>Skipped pictures</h2>", table(["picture", "why"], rows)]
