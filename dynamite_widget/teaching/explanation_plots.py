"""Figures of an `Explanation`: one per view, as `VIEWS` lists them.

Matplotlib figures of their own (no pyplot), so that a notebook shows each once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..colours import instance_colour
from ..plotting import blend
from .drawing import colours_of, edge

if TYPE_CHECKING:
    from .explanation import Explanation

VIEWS = ("sampling", "attention", "mask", "without", "queries", "background")
"""What `Explanation.plot` draws."""

_HEAT = "inferno"
_MARK = "#00e5ff"


def plot(
    explanation: Explanation, view: str = "attention", *, layer: int = 0, head: int | None = None
) -> Any:
    """Draw one view of an explanation.

    Parameters
    ----------
    explanation : Explanation
    view : str
        One of `VIEWS`: where the descriptor is sampled; cross-attention of a layer; its own mask
        after every layer; the label map without this click; which queries it attends to; what the
        static background queries cover.
    layer : int
        Encoder layer, for "attention".
    head : int, optional
        Attention head, for "attention" and "queries"; by default the mean of all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        For an unknown view, layer or head.
    """
    if view not in VIEWS:
        raise ValueError(f"unknown view {view!r}; views: {', '.join(VIEWS)}")
    if not 0 <= layer < explanation.layers:
        raise ValueError(f"layer must be 0..{explanation.layers - 1}, got {layer}")
    heads = explanation.self_attention.shape[1]
    if head is not None and not 0 <= head < heads:
        raise ValueError(f"head must be 0..{heads - 1} or None, got {head}")
    draw: Callable[..., Any] = {
        "sampling": _sampling,
        "attention": _attention,
        "mask": _mask,
        "without": _without,
        "queries": _queries,
        "background": _background,
    }[view]
    return draw(explanation, layer, head)


def _panels(explanation: Explanation, count: int, columns: int, width: float = 10.0) -> Any:
    from ..figure import NotebookFigure

    height, across = explanation.picture.shape[:2]
    rows = -(-count // columns)
    tall = width / columns * height / across + 0.42
    figure = NotebookFigure(figsize=(width, rows * tall), layout="constrained", dpi=90)
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]


def _grey(explanation: Explanation) -> NDArray[np.uint8]:
    weights = np.asarray([0.299, 0.587, 0.114], np.float32)
    grey = explanation.picture.astype(np.float32) @ weights
    return np.rint(0.75 * grey).astype(np.uint8)


def _show(axes: Any, picture: NDArray[Any], title: str, **options: Any) -> None:
    axes.imshow(picture, **options)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _mark_click(axes: Any, explanation: Explanation) -> None:
    state, click = explanation.state, explanation.click
    height, width = explanation.picture.shape[:2]
    x, y = (click.x + 0.5) * width / state.width, (click.y + 0.5) * height / state.height
    axes.plot([x - 0.5], [y - 0.5], "o", color=_MARK, markeredgecolor="black", markersize=7)


def _colour(explanation: Explanation) -> str:
    instance = explanation.click.instance
    known = colours_of(explanation.state)
    return known.get(instance) or (instance_colour(instance) if instance else "#000000")


def _sampling(explanation: Explanation, _layer: int, _head: int | None) -> Any:
    from matplotlib.patches import Rectangle

    from .explanation import STRIDES

    figure, axes = _panels(explanation, 4, 4, 12.0)
    height, width = explanation.picture.shape[:2]
    across, down = (
        width / explanation.network_size[1],
        height / explanation.network_size[0],
    )
    _show(axes[0], explanation.picture, "the point, and the cell around it per level")
    for (row, column), stride, style in zip(
        explanation.sampled_at.tolist(), STRIDES, ("-", "--", ":"), strict=True
    ):
        corner = (round(column) * stride * across - 0.5, round(row) * stride * down - 0.5)
        axes[0].add_patch(
            Rectangle(
                corner,
                stride * across,
                stride * down,
                fill=False,
                edgecolor=_MARK,
                linewidth=1.6,
                linestyle=style,
            )
        )
    _mark_click(axes[0], explanation)
    for place, (similar, stride) in enumerate(zip(explanation.similarity, STRIDES, strict=True), 1):
        axes[place].imshow(_grey(explanation), cmap="gray", vmin=0, vmax=255)
        _show(
            axes[place],
            explanation.on_picture(similar, smooth=False),
            f"alike at stride {stride} (cosine)",
            cmap=_HEAT,
            alpha=0.75,
            vmin=0,
            vmax=1,
        )
        _mark_click(axes[place], explanation)
    return figure


def _attention(explanation: Explanation, layer: int, head: int | None) -> Any:
    from .explanation import STRIDES

    figure, axes = _panels(explanation, 2, 2)
    weights = explanation.attention[layer]
    shown = weights.mean(axis=0) if head is None else weights[head]
    stride = STRIDES[explanation.layer_levels[layer]]
    which = "mean of the heads" if head is None else f"head {head + 1}"
    heat = explanation.on_picture(shown, smooth=False)
    top = float(np.quantile(shown, 0.998)) or float(shown.max()) or 1.0
    axes[0].imshow(_grey(explanation), cmap="gray", vmin=0, vmax=255)
    _show(
        axes[0],
        heat,
        f"layer {layer + 1}: where it looks (stride {stride}, {which})",
        cmap=_HEAT,
        vmin=0,
        vmax=top,
        alpha=np.clip(heat / top, 0.0, 1.0) * 0.7 + 0.25,
    )
    _mark_click(axes[0], explanation)
    allowed = explanation.on_picture(explanation.allowed[layer], smooth=False)
    picture = explanation.picture // 4
    picture[allowed] = explanation.picture[allowed]
    _show(axes[1], picture, f"where it may look: its own mask before layer {layer + 1}")
    _mark_click(axes[1], explanation)
    return figure


def _mask(explanation: Explanation, _layer: int, _head: int | None) -> Any:
    count = len(explanation.masks)
    figure, axes = _panels(explanation, count, 4, 12.0)
    limit = max(1.0, float(np.quantile(np.abs(explanation.masks), 0.98)))
    for place, logits in enumerate(explanation.masks):
        title = f"after layer {place}"
        if place == 0:
            title = "before the first layer"
        elif place == count - 1:
            title = "after the pixel decoder"
        on_picture = explanation.on_picture(logits)
        axes[place].imshow(_grey(explanation), cmap="gray", vmin=0, vmax=255)
        axes[place].imshow(on_picture, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.6)
        inside = on_picture > 0
        if inside.any() and not inside.all():
            axes[place].contour(inside, [0.5], colors="white", linewidths=1.0)
        _show_title(axes[place], title)
        _mark_click(axes[place], explanation)
    return figure


def _show_title(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _without(explanation: Explanation, _layer: int, _head: int | None) -> Any:
    figure, axes = _panels(explanation, 3, 3, 12.0)
    colours = colours_of(explanation.state)
    for place, (labels, title) in enumerate(
        (
            (explanation.label_map, "with all clicks"),
            (explanation.label_map_without, "without this click"),
        )
    ):
        _show(axes[place], blend(explanation.picture, labels, colours), title)
        _mark_click(axes[place], explanation)
    changed = explanation.changed
    picture = np.repeat(_grey(explanation)[:, :, None], 3, axis=2)
    shown = blend(
        picture, np.where(changed, explanation.label_map, 0).astype(np.int32), colours, 0.7
    )
    lost = changed & (explanation.label_map == 0)
    shown[lost] = (shown[lost] // 2 + np.asarray([60, 60, 60])).astype(np.uint8)
    shown[edge(changed)] = 255
    _show(axes[2], shown, f"owned because of it: {changed.mean():.1%} of the picture")
    _mark_click(axes[2], explanation)
    return figure


def _queries(explanation: Explanation, _layer: int, head: int | None) -> Any:
    from ..figure import NotebookFigure

    weights = explanation.self_attention
    table = weights.mean(axis=1) if head is None else weights[:, head]
    count = table.shape[1]
    figure = NotebookFigure(
        figsize=(max(6.0, 0.42 * count + 2.0), 0.32 * len(table) + 1.5),
        layout="constrained",
        dpi=90,
    )
    axes = figure.add_subplot()
    drawn = axes.imshow(table, cmap="viridis", vmin=0, aspect="auto")
    axes.set_xticks(range(count), explanation.query_names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(table)), [str(k + 1) for k in range(len(table))], fontsize=8)
    axes.set_ylabel("encoder layer")
    axes.get_xticklabels()[explanation.query].set_fontweight("bold")
    name = explanation.query_names[explanation.query]
    axes.set_title(f"how much query {name} takes from each query (rows sum to 1)", fontsize=9)
    figure.colorbar(drawn, ax=axes, fraction=0.03)
    return figure


def _background(explanation: Explanation, _layer: int, _head: int | None) -> Any:
    from matplotlib.patches import Patch

    figure, axes = _panels(explanation, 2, 2)
    count = len(explanation.background_logits)
    colours = {k + 1: _STATIC[k % len(_STATIC)] for k in range(count)}
    owner = explanation.on_picture((explanation.background_owner + 1).astype(np.int32), False)
    _show(
        axes[0],
        blend(explanation.picture, owner, colours, 0.55),
        "which static query holds the background",
    )
    shares = np.asarray([(explanation.background_owner == k).mean() for k in range(count)])
    handles = [
        Patch(color=colours[k + 1], label=f"s{k + 1}: {shares[k]:.1%}")
        for k in np.argsort(-shares)
        if shares[k] > 0.0005
    ]
    if handles:
        axes[0].legend(handles=handles, loc="lower right", fontsize=7, framealpha=0.85)
    strongest = explanation.on_picture(explanation.background_logits.max(axis=0))
    limit = max(1.0, float(np.quantile(np.abs(strongest), 0.98)))
    axes[1].imshow(_grey(explanation), cmap="gray", vmin=0, vmax=255)
    axes[1].imshow(strongest, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.65)
    _show_title(axes[1], "their strongest logit (red: background)")
    return figure


_STATIC = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#bcbd22",
    "#17becf",
)
