"""Figures: a picture with its masks, outlines, clicks and a legend.

Matplotlib is imported when a figure is made; `blend` needs numpy alone. No training or evaluation
plots here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .colours import instance_colour, to_rgb

if TYPE_CHECKING:
    from .segmentation import Segmentation
    from .session_state import SessionState

_MAX_LONG_SIDE = 1600


def blend(
    image: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    colours: Mapping[int, str] | None = None,
    opacity: float = 0.45,
    outlines: bool = True,
) -> NDArray[np.uint8]:
    """Tint the pixels of each instance and draw a line along its inner border.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        RGB.
    labels : (H, W) integer array
        Label map of the same size.
    colours : mapping from id to "#rrggbb", optional
        By default `dynamite_widget.colours.instance_colour`.
    opacity : float
        Of the tint, 0..1.
    outlines : bool
        Whether to draw the borders, opaque.

    Returns
    -------
    (H, W, 3) uint8 array
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f"label map {labels.shape} and picture {image.shape[:2]} differ in size")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in 0..1, got {opacity!r}")
    present = np.unique(labels)
    table = np.asarray(
        [to_rgb(_colour(i, colours)) if i else (0, 0, 0) for i in present.tolist()], np.float32
    )
    tint = table[np.searchsorted(present, labels)]
    weight = np.where(labels > 0, np.float32(opacity), np.float32(0.0))
    if outlines:
        weight[_border(labels)] = 1.0
    mixed = image + (tint - image) * weight[:, :, None]
    return np.rint(mixed).astype(np.uint8)


def plot_segmentation(
    segmentation: Segmentation,
    image: ArrayLike | None = None,
    state: SessionState | None = None,
    *,
    clicks: Iterable[Any] | None = None,
    names: Mapping[int, str] | None = None,
    opacity: float = 0.45,
    outlines: bool = True,
    legend: bool = True,
    title: str | None = None,
    axes: Any = None,
) -> Any:
    """Draw a picture with its masks, outlines, clicks and a legend.

    Parameters
    ----------
    segmentation : Segmentation
        What to draw.
    image : (H, W, 3) uint8 array, optional
        The picture at any size; gray if not given.
    state : SessionState, optional
        Where clicks, class names and colours come from.
    clicks : iterable of Click, optional
        Drawn as discs (instances) and crosses (background), in place of those of `state`.
    names : mapping from id to str, optional
        Legend entries, in place of the class names of `state`.
    opacity : float
        Of the masks, 0..1.
    outlines, legend : bool
        Whether to draw them.
    title : str, optional
        Heading.
    axes : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    canvas = _canvas(segmentation, image)
    height, width = canvas.shape[:2]
    colours = {} if state is None else {i.id: i.colour for i in state.instances}
    if names is None:
        names = {} if state is None else {i.id: i.class_name for i in state.instances}
    if clicks is None:
        clicks = () if state is None else state.clicks
    labels = segmentation.label_map_at(height, width)
    if axes is None:
        # No pyplot: a figure of its own is shown once, by the notebook, and freed when unused.
        from .figure import NotebookFigure

        scale = 8.0 / max(height, width)
        figure = NotebookFigure(
            figsize=(max(3.0, width * scale), max(3.0, height * scale)), layout="constrained"
        )
        axes = figure.add_subplot()
    # In pixels of the original picture, so that clicks and cursor positions read as such.
    extent = (-0.5, segmentation.width - 0.5, segmentation.height - 0.5, -0.5)
    axes.imshow(blend(canvas, labels, colours, opacity, outlines), extent=extent)
    axes.set_axis_off()
    if title:
        axes.set_title(title)
    for click in clicks:
        _draw_click(axes, click, colours)
    if legend and segmentation.instances:
        _draw_legend(axes, segmentation, colours, names)
    return axes.figure


def plot_instances(
    segmentation: Segmentation,
    image: ArrayLike | None = None,
    state: SessionState | None = None,
    *,
    columns: int = 6,
    margin_px: int = 8,
    max_instances: int = 60,
) -> Any:
    """Draw a contact sheet: one crop per instance, everything else darkened.

    Parameters
    ----------
    segmentation : Segmentation
        What to draw; instances without pixels are left out.
    image : (H, W, 3) uint8 array, optional
        The picture at full size; gray if not given.
    state : SessionState, optional
        Where class names and colours come from.
    columns : int
        Crops per row.
    margin_px : int
        Surroundings shown, in pixels of the picture.
    max_instances : int
        The first so many are drawn; the heading tells how many there are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from .figure import NotebookFigure

    if columns < 1 or max_instances < 1:
        raise ValueError(f"columns and max_instances are >= 1, got {columns}, {max_instances}")
    height, width = segmentation.height, segmentation.width
    picture: NDArray[np.uint8]
    if image is None:
        picture = np.full((height, width, 3), 128, np.uint8)
    else:
        from .images import load_image

        picture = load_image(image)
    if picture.shape[:2] != (height, width):
        raise ValueError(
            f"the picture is {picture.shape[:2]}, the segmentation {(height, width)}: give the "
            "picture at full size"
        )
    known = {} if state is None else {i.id: i for i in state.instances}
    rows = zip(
        segmentation.instances,
        segmentation.boxes.tolist(),
        segmentation.areas.tolist(),
        strict=True,
    )
    drawn = [(i, box, area) for i, box, area in rows if area]
    shown = drawn[:max_instances]
    lines = max(1, -(-len(shown) // columns))
    figure = NotebookFigure(
        figsize=(2.0 * min(columns, max(1, len(shown))), 2.3 * lines), layout="constrained"
    )
    for place, (instance, (x0, y0, x1, y1), area) in enumerate(shown, 1):
        top, left = max(0, y0 - margin_px), max(0, x0 - margin_px)
        part = (slice(top, y1 + margin_px), slice(left, x1 + margin_px))
        inside = segmentation.label_map[part] == instance
        crop = np.where(inside[:, :, None], picture[part], picture[part] // 4)
        axes = figure.add_subplot(lines, min(columns, len(shown)), place)
        entry = known.get(instance)
        colours = None if entry is None else {instance: entry.colour}
        tinted = blend(crop.astype(np.uint8), np.where(inside, instance, 0), colours, opacity=0.0)
        axes.imshow(tinted)
        axes.set_axis_off()
        name = "" if entry is None else entry.class_name.replace("$", r"\$")
        axes.set_title(f"{instance} {name}\n{area} px", fontsize=8)
    if len(drawn) > len(shown):
        figure.suptitle(f"{len(shown)} of {len(drawn)} instances", fontsize=9)
    return figure


def _canvas(segmentation: Segmentation, image: ArrayLike | None) -> NDArray[np.uint8]:
    """Return the picture at a size fit for a figure."""
    if image is None:
        scale = min(1.0, _MAX_LONG_SIDE / max(segmentation.height, segmentation.width))
        size = (
            max(1, round(segmentation.height * scale)),
            max(1, round(segmentation.width * scale)),
        )
        return np.full((*size, 3), 64, np.uint8)
    from .images import load_image

    picture = load_image(image)
    height, width = picture.shape[:2]
    if abs(height * segmentation.width - width * segmentation.height) > max(
        segmentation.height, segmentation.width
    ):
        raise ValueError(
            f"the picture is {height} x {width}, the segmentation {segmentation.height} x "
            f"{segmentation.width}: not the same picture"
        )
    step = -(-max(height, width) // _MAX_LONG_SIDE)
    return np.ascontiguousarray(picture[::step, ::step]) if step > 1 else picture


def _colour(instance: int, colours: Mapping[int, str] | None) -> str:
    return (colours or {}).get(instance) or instance_colour(instance)


def _border(labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Pixels of instances with a 4-neighbour of another label."""
    border = np.zeros(labels.shape, bool)
    vertical = labels[1:] != labels[:-1]
    horizontal = labels[:, 1:] != labels[:, :-1]
    border[1:] |= vertical
    border[:-1] |= vertical
    border[:, 1:] |= horizontal
    border[:, :-1] |= horizontal
    border &= labels > 0
    return border


def _draw_click(axes: Any, click: Any, colours: Mapping[int, str]) -> None:
    style = {"markersize": 8, "markeredgewidth": 1.5, "linestyle": "none", "zorder": 3}
    if click.instance:
        colour = _colour(click.instance, colours)
        axes.plot([click.x], [click.y], "o", color=colour, markeredgecolor="white", **style)
        axes.annotate(
            str(click.instance),
            (click.x, click.y),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
            color="white",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.6, "linewidth": 0},
        )
    else:
        axes.plot([click.x], [click.y], "o", color="black", markeredgecolor="white", **style)
        axes.plot([click.x], [click.y], "x", color="white", **{**style, "markersize": 5})


def _draw_legend(
    axes: Any, segmentation: Segmentation, colours: Mapping[int, str], names: Mapping[int, str]
) -> None:
    from matplotlib.patches import Patch

    handles = []
    for instance, score in zip(segmentation.instances, segmentation.scores, strict=True):
        # A leading underscore would hide the entry, "$" would start a formula.
        name = f"{instance} {names.get(instance, '')}".strip().replace("$", r"\$")
        handles.append(Patch(color=_colour(instance, colours), label=f"{name} ({score:.2f})"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
