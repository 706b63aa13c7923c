"""Figures of the report as inline SVG or PNG, drawn by matplotlib without any global state."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..session import Click
from .metrics import iou_after, number_of_clicks
from .predictors import EvaluationPredictor, predict_label_map
from .runner import RunResult, open_run_data
from .samples import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

# Okabe-Ito: distinguishable with colour-blind vision.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "osD^vPX*"


def _figure(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _integers() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _svg(figure: Figure, text: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return f'<figure role="img" aria-label="{escape(text)}">{svg}</figure>'


def _png(figure: Figure, text: str, dpi: int = 90) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def iou_curve(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the mean IoU after 1, 2, … clicks (MIST: mean over the objects, by correction step).

    Runs that stopped keep their last value.
    """
    runs = [record.get("ious") or record.get("mean_ious") or [] for record in records]
    runs = [run for run in runs if run]
    longest = max((len(run) for run in runs), default=0)
    return [
        round(float(np.mean([iou_after(run, clicks) for run in runs])), 6)
        for clicks in range(1, longest + 1)
    ]


def plot_curves(curves: Mapping[str, Sequence[float]], protocol: str) -> str:
    """Plot mean IoU over clicks, one line per run."""
    figure, axes = _figure()
    for number, (name, values) in enumerate(curves.items()):
        values = list(values)[:20] if protocol == "noc" else list(values)
        axes.plot(
            range(1, len(values) + 1),
            values,
            label=name,
            color=COLOURS[number % 8],
            marker=MARKERS[number % 8],
            markersize=4,
            markevery=_every(values),
        )
    single = protocol == "noc"
    axes.xaxis.set_major_locator(_integers())
    axes.set_xlabel("clicks" if single else "prediction (the first: one click per object)")
    axes.set_ylabel("mean IoU")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    return _svg(figure, "Mean IoU over clicks")


def _every(values: Sequence[float]) -> int:
    return max(1, len(values) // 20)


def plot_histogram(result: RunResult) -> str:
    """Plot how many objects needed how many clicks."""
    threshold, budget = result.settings.iou_threshold, result.settings.budget
    wanted = sorted({q for q in (0.85, threshold) if q <= threshold})
    figure, axes = _figure()
    width = 0.8 / len(wanted)
    for number, q in enumerate(wanted):
        counts = np.zeros(budget + 2)
        for record in result.records:
            if not record["ious"]:
                continue
            ok = max(record["ious"][:budget]) >= q
            counts[number_of_clicks(record["ious"], q, budget) if ok else budget + 1] += 1
        x = np.arange(1, budget + 2) + (number - (len(wanted) - 1) / 2) * width
        axes.bar(x, counts[1:], width, color=COLOURS[number], label=f"IoU {q:g}")
    ticks = [1, *range(5, budget, 5), budget, budget + 1]
    axes.set_xticks(ticks, [*map(str, ticks[:-1]), "\nnever"])
    axes.set_xlabel("clicks until the IoU was reached")
    axes.yaxis.set_major_locator(_integers())
    axes.set_ylabel("objects")
    axes.legend(frameon=False)
    return _svg(figure, "Histogram of the number of clicks")


def plot_ratio_histogram(result: RunResult) -> str:
    """Plot the distribution of clicks per object over pictures."""
    figure, axes = _figure()
    ratios = [record["n_clicks"] / record["n_objects"] for record in result.records]
    edges = np.linspace(1, result.settings.budget, 2 * result.settings.budget - 1)
    axes.hist(ratios, bins=list(edges), color=COLOURS[0])
    axes.yaxis.set_major_locator(_integers())
    axes.set_xlabel("clicks per object")
    axes.set_ylabel("pictures")
    return _svg(figure, "Histogram of clicks per object")


def plot_seconds(records: Sequence[Mapping[str, Any]]) -> str:
    """Plot the time of a prediction over the number of clicks, as measured in the run."""
    by_clicks: dict[int, list[float]] = {}
    for record in records:
        first = record.get("n_objects", 1)
        for step, value in enumerate(record["seconds"]):
            by_clicks.setdefault(first + step, []).append(value * 1000)
    figure, axes = _figure(height=3.0)
    xs = sorted(by_clicks)
    axes.plot(xs, [float(np.median(by_clicks[x])) for x in xs], color=COLOURS[0], label="median")
    low = [float(np.quantile(by_clicks[x], 0.1)) for x in xs]
    high = [float(np.quantile(by_clicks[x], 0.9)) for x in xs]
    axes.fill_between(xs, low, high, color=COLOURS[0], alpha=0.2, label="10-90 %")
    axes.xaxis.set_major_locator(_integers())
    axes.set_xlabel("clicks")
    axes.set_ylabel("ms per prediction")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure, "Time per prediction over the number of clicks")


def plot_runtime(rows: Sequence[Mapping[str, Any]]) -> str:
    """Plot a runtime measurement (`runtime.measure_runtime`): seconds and memory over clicks."""
    figure, axes = _figure(height=3.0)
    clicks = [row["clicks"] for row in rows]
    axes.plot(clicks, [row["seconds"] * 1000 for row in rows], "o-", color=COLOURS[0])
    axes.set_xscale("log")
    axes.set_xticks(clicks, [str(count) for count in clicks])
    axes.minorticks_off()
    axes.set_xlabel("clicks")
    axes.set_ylabel("ms per prediction", color=COLOURS[0])
    axes.set_ylim(bottom=0)
    memory = axes.twinx()
    memory.plot(clicks, [row["memory_bytes"] / 2**20 for row in rows], "s--", color=COLOURS[1])
    memory.set_ylabel("memory, MiB", color=COLOURS[1])
    memory.set_ylim(0, 1.25 * max(row["memory_bytes"] for row in rows) / 2**20 or 1)
    memory.spines["top"].set_visible(False)
    return _svg(figure, "Runtime and memory over the number of clicks")


def plot_ablation(rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Plot the clicks per object of each variant: repeats as dots, their mean as a line."""
    figure, axes = _figure(height=0.9 + 0.4 * len(rows))
    for place, (_, values) in enumerate(rows):
        colour = COLOURS[0] if place == 0 else COLOURS[1]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=6)
        mean = float(np.mean(values))
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=colour, linewidth=2)
    if rows:
        axes.axvline(float(np.mean(rows[0][1])), color=COLOURS[0], linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("NCI: clicks per object (fewer is better)")
    axes.grid(axis="x", alpha=0.3)
    return _svg(figure, "Clicks per object of each variant")


def draw_extremes(
    result: RunResult, predictor: EvaluationPredictor, count: int = 4
) -> list[tuple[str, str]]:
    """Draw the worst and the best records with their clicks; returns (caption, HTML) pairs."""
    ranked = sorted(
        (record for record in result.records if record["clicks"]), key=_badness, reverse=True
    )
    count = min(count, (len(ranked) + 1) // 2)  # in short runs the better half is not "worst"
    chosen = [("worst", record) for record in ranked[:count]]
    chosen += [("best", r) for r in ranked[::-1][:count] if r not in ranked[:count]]
    dataset = open_run_data(result.settings)
    positions = {key: index for index, key in enumerate(dataset.keys)}
    drawn = []
    for kind, record in chosen:
        sample = dataset[positions[record["image"]]]
        caption = f"{kind}: {record['key']}, {_told(record)}"
        drawn.append((caption, draw_record(sample, record, predictor, caption)))
    return drawn


def _badness(record: Mapping[str, Any]) -> tuple[float, float]:
    if "ious" in record:
        return (len(record["ious"]), -record["ious"][-1])
    return (record["n_clicks"] / record["n_objects"], -float(np.mean(record["final_ious"])))


def _told(record: Mapping[str, Any]) -> str:
    if "ious" in record:
        return f"{_clicks(len(record['ious']))}, IoU {record['ious'][-1]:.3f}"
    mean = float(np.mean(record["final_ious"]))
    return f"{record['n_objects']} objects, {_clicks(record['n_clicks'])}, mean IoU {mean:.3f}"


def _clicks(count: int) -> str:
    return f"{count} click{'s' * (count != 1)}"


def draw_record(
    sample: Sample, record: Mapping[str, Any], predictor: EvaluationPredictor, caption: str
) -> str:
    """Draw the ground truth and the prediction after the first, some middle, and all clicks."""
    from matplotlib.figure import Figure

    clicks = [Click(x=x, y=y, instance=k, t=t) for t, k, y, x in record["clicks"]]
    single = "ious" in record
    if single:
        truth = sample.target(record["instance"]).astype(np.int32)
    else:
        sample = sample.without_hidden()
        truth = sample.label_map
    objects = 1 if single else record["n_objects"]
    total = len(clicks)
    steps = sorted({objects, min(objects + 2, total), (objects + total) // 2, total})
    embedding = predictor.embed(sample.image)
    height, width = truth.shape
    panel = 3.0
    figure = Figure(
        figsize=(panel * (len(steps) + 1), panel * height / width + 0.3), layout="constrained"
    )
    axes = figure.subplots(1, len(steps) + 1, squeeze=False)[0]
    window = _window(truth, clicks) if single else None
    _panel(axes[0], sample.image, truth, [], "ground truth", window)
    instances = tuple(range(1, objects + 1))
    for axis, step in zip(axes[1:], steps, strict=True):
        part = clicks[:step]
        labels = predict_label_map(predictor, embedding, part, instances, truth.shape)
        _panel(axis, sample.image, labels, part, _clicks(step), window)
    return _png(figure, caption)


def _panel(
    axes: Axes,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    clicks: Sequence[Click],
    title: str,
    window: tuple[float, float, float, float] | None = None,
) -> None:
    shown = image.astype(np.float32)
    for instance in np.unique(labels[labels > 0]):
        fill = np.array(_rgb(int(instance)), np.float32)
        mask = labels == instance
        shown[mask] = 0.6 * shown[mask] + 0.4 * fill
        edge = mask & ~cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        shown[edge] = fill
        around = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~mask
        shown[around] = 255  # seen on any colour
    axes.imshow(shown.clip(0, 255).astype(np.uint8))
    for number, click in enumerate(clicks, start=1):
        colour = "#ffffff" if click.instance == 0 else _hex(click.instance)
        marker = "X" if click.instance == 0 else "o"
        axes.plot(click.x, click.y, marker, color=colour, markeredgecolor="black", markersize=6)
        if len(clicks) <= 30:
            axes.annotate(
                str(number),
                (click.x, click.y),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=6,
                color="white",
                path_effects=_outline(),
            )
    if window is not None:
        axes.set_xlim(window[0], window[2])
        axes.set_ylim(window[3], window[1])
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()


def _window(
    truth: NDArray[np.integer], clicks: Sequence[Click]
) -> tuple[float, float, float, float] | None:
    """Return x0, y0, x1, y1 of the part to show: object and clicks, in the picture's shape."""
    height, width = truth.shape
    rows, columns = np.nonzero(truth)
    ys = [*map(int, (rows.min(), rows.max())), *(click.y for click in clicks)]
    xs = [*map(int, (columns.min(), columns.max())), *(click.x for click in clicks)]
    # Twice the extent, at least a third of the picture.
    share = max(2 * (max(xs) - min(xs)) / width, 2 * (max(ys) - min(ys)) / height, 1 / 3)
    if share >= 0.8:
        return None
    w, h = share * width, share * height
    x0 = min(max((min(xs) + max(xs) - w) / 2, 0), width - w)
    y0 = min(max((min(ys) + max(ys) - h) / 2, 0), height - h)
    return x0 - 0.5, y0 - 0.5, x0 + w - 0.5, y0 + h - 0.5


def _outline() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.5, foreground="black")]


def _hex(instance: int) -> str:
    return COLOURS[(instance - 1) % len(COLOURS)]


def _rgb(instance: int) -> tuple[int, int, int]:
    text = _hex(instance)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
