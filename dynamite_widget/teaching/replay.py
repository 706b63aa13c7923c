"""ClickReplay: step through the clicks of a session in a notebook, and export the steps.

ipywidgets and ipycanvas; neither torch nor a network when the session carries its recording.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from numpy.typing import NDArray

from ..colours import instance_colour, to_rgb
from ..errors import DynaMITeError
from ..session_json import read_session, write_atomically
from . import drawing
from .captions import Transfer, caption, step_transfers
from .recording import Recording, is_widget, record
from .story import MAX_BYTES, story

_PICTURE, _MASKS, _CLICKS = range(3)


class ClickReplay(ipywidgets.VBox):
    """A player for the clicks of a session: masks after each one, and what changed hands.

    Parameters
    ----------
    source : DynaMITeWidget, Recording, ClickSession, mapping, JSON text or path
        What to replay. A widget computes the masks of all steps with its own network; a session
        brings them along if it was saved by `save` here, else `image` and `predictor` are needed to
        compute them. Without those, clicks are shown, and the last masks if the file has them.
    image : object, optional
        The picture of a session; see `load_image`. Recordings mostly carry it.
    predictor : Predictor, optional
        Computes the masks of a session that has none.
    width_px : int
        Long side of the picture on the page.
    interval_s : float
        Time per step when playing.

    Attributes
    ----------
    recording : Recording
        Steps and label maps, as plain arrays.

    Raises
    ------
    SessionError
        If the session is damaged, or the picture is another one.

    Examples
    --------
    >>> replay = ClickReplay(widget)  # doctest: +SKIP
    >>> replay.save("lesson.json")  # doctest: +SKIP
    >>> ClickReplay("lesson.json").to_html("lesson.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        source: Any,
        image: Any = None,
        *,
        predictor: Any = None,
        width_px: int = 560,
        interval_s: float = 0.9,
    ) -> None:
        if width_px < 64:
            raise ValueError(f"width_px must be >= 64, got {width_px}")
        self.recording = _recording(source, image, predictor)
        self._base = drawing.canvas_of(self.recording, width_px)
        height, width = self._base.shape[:2]
        self._canvas = MultiCanvas(3, width=width, height=height)
        self._canvas.layout.max_width = "100%"
        last = len(self.recording) - 1
        self._slider = ipywidgets.IntSlider(
            value=last, min=0, max=last, description="step", layout={"flex": "1 1 auto"}
        )
        self._play = ipywidgets.Play(
            value=last, min=0, max=last, interval=max(50, round(interval_s * 1000))
        )
        self._link = ipywidgets.link((self._play, "value"), (self._slider, "value"))
        self._opacity = ipywidgets.FloatSlider(
            value=0.45, min=0, max=1, step=0.05, description="masks", readout=False
        )
        self._changes = ipywidgets.Checkbox(
            value=True, description="outline what changed hands", indent=False
        )
        self._text = ipywidgets.HTML()
        self._legend = ipywidgets.HTML(layout={"min_width": "170px"})
        super().__init__(
            [
                ipywidgets.HBox(
                    [self._canvas, self._legend],
                    layout={"flex_flow": "row wrap", "grid_gap": "16px"},
                ),
                ipywidgets.HBox([self._play, self._slider], layout={"max_width": f"{width}px"}),
                self._text,
                ipywidgets.HBox(
                    [self._opacity, self._changes],
                    layout={"flex_flow": "row wrap", "grid_gap": "8px"},
                ),
            ]
        )
        self._canvas[_PICTURE].put_image_data(self._base, 0, 0)
        for control in (self._slider, self._opacity, self._changes):
            control.observe(self._draw, "value")
        self._canvas.on_client_ready(self._repaint)
        self._draw()

    @property
    def step(self) -> int:
        """The step shown: 0 is the picture before the first click. May be set."""
        return int(self._slider.value)

    @step.setter
    def step(self, index: int) -> None:
        if not 0 <= index < len(self.recording):
            raise ValueError(f"step must be 0..{len(self.recording) - 1}, got {index}")
        self._slider.value = index

    @property
    def label_map(self) -> NDArray[np.int32]:
        """(h, w) int32 label map of the step shown, at the size of the recording."""
        return self.recording.label_map(self.step)

    @property
    def caption(self) -> str:
        """What the step shown did, in words."""
        return " ".join(caption(self.recording, self.step)).strip()

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """Pixels that changed hands in the step shown, the largest exchange first."""
        return step_transfers(self.recording, self.step)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, picture: bool = True) -> None:
        """Write a session file that carries the masks of all steps; see `Recording.save`."""
        self.recording.save(path, picture=picture)

    def to_gif(
        self,
        path: str | os.PathLike[str],
        *,
        seconds_per_step: float = 0.9,
        long_side_px: int = 480,
        captions: bool = True,
    ) -> None:
        """Write an animated GIF of all steps."""
        data = drawing.gif(
            self.recording,
            seconds_per_step=seconds_per_step,
            long_side_px=long_side_px,
            captions=captions,
            opacity=self._opacity.value,
            changes=self._changes.value,
        )
        write_atomically(Path(path), data)

    def to_png(
        self,
        path: str | os.PathLike[str],
        *,
        steps: Sequence[int] | None = None,
        columns: int = 4,
        long_side_px: int = 400,
        captions: bool = True,
    ) -> None:
        """Write a PNG with all steps (or those named) side by side."""
        import io

        from PIL import Image

        sheet = drawing.strip(
            self.recording,
            steps=steps,
            columns=columns,
            long_side_px=long_side_px,
            captions=captions,
            opacity=self._opacity.value,
            changes=self._changes.value,
        )
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
        write_atomically(Path(path), buffer.getvalue())

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Write one HTML file with a scrubber, which opens from disk; see `story.story`."""
        page = story(
            self.recording,
            title=title,
            max_bytes=max_bytes,
            seconds_per_step=self._play.interval / 1000,
        )
        write_atomically(Path(path), page.encode())

    # -- drawing ---------------------------------------------------------------------------------

    def _repaint(self, *_: Any) -> None:
        """Draw everything again for a page that has just opened."""
        self._canvas[_PICTURE].put_image_data(self._base, 0, 0)
        self._draw()

    def _draw(self, _change: Any = None) -> None:
        index = self.step
        step = self.recording.steps[index]
        with hold_canvas():
            self._canvas[_MASKS].clear()  # image data is blended with what is there
            self._canvas[_MASKS].put_image_data(self._overlay(index), 0, 0)
            self._canvas[_CLICKS].clear()
            self._draw_clicks(self._canvas[_CLICKS], step)
        first, second = caption(self.recording, index)
        self._text.value = (
            f"<div style='line-height:1.4'><b>{html.escape(first)}</b><br>"
            f"{html.escape(second) or '&nbsp;'}</div>"
        )
        self._legend.value = self._legend_html(index)

    def _overlay(self, index: int) -> NDArray[np.uint8]:
        """Masks of a step as (h, w, 4) uint8 RGBA."""
        height, width = self._base.shape[:2]
        labels = drawing.nearest(self.recording.label_map(index), height, width)
        colours = drawing.colours_of(self.recording.steps[index].state)
        table = np.zeros((int(labels.max(initial=0)) + 1, 3), np.uint8)
        for instance in range(1, len(table)):
            table[instance] = to_rgb(colours.get(instance) or instance_colour(instance))
        overlay = np.zeros((height, width, 4), np.uint8)
        overlay[..., :3] = table[labels]
        overlay[..., 3] = np.where(labels > 0, round(255 * self._opacity.value), 0)
        for instance in np.unique(labels[labels > 0]).tolist():
            overlay[drawing.edge(labels == instance), 3] = 255
        if self._changes.value and index > 0 and self.recording.known[index]:
            before = drawing.nearest(self.recording.label_map(index - 1), height, width)
            overlay[drawing.edge(labels != before)] = 255
        return overlay

    def _draw_clicks(self, canvas: Any, step: Any) -> None:
        state = step.state
        across, down = canvas.width / state.width, canvas.height / state.height
        radius = max(5, round(max(canvas.width, canvas.height) / 90))
        colours = drawing.colours_of(state)
        canvas.line_width = 2
        canvas.stroke_style = "#ffffff"
        canvas.text_align, canvas.text_baseline = "center", "middle"
        for click in state.clicks:
            x, y = (click.x + 0.5) * across, (click.y + 0.5) * down
            r = radius * (1.5 if click.t == step.click else 1)
            colour = colours.get(click.instance, "#000000")
            canvas.fill_style = colour
            canvas.fill_circle(x, y, r)
            canvas.stroke_circle(x, y, r)
            if click.instance:
                canvas.fill_style = drawing.readable_on(colour)
                canvas.font = f"{max(8, round(r * 1.4))}px sans-serif"
                canvas.fill_text(str(click.instance), x, y + 0.5)
            else:
                arm = r * 0.45
                canvas.stroke_line(x - arm, y - arm, x + arm, y + arm)
                canvas.stroke_line(x - arm, y + arm, x + arm, y - arm)

    def _legend_html(self, index: int) -> str:
        state = self.recording.steps[index].state
        labels = self.recording.label_map(index)
        counts = np.bincount(labels.reshape(-1), minlength=state.next_id)
        rows = []
        for instance in state.instances:
            share = counts[instance.id] / labels.size
            rows.append(
                "<div style='display:flex;gap:8px;align-items:center;line-height:1.7'>"
                f"<span style='flex:none;width:20px;height:20px;line-height:20px;"
                f"border-radius:50%;text-align:center;font-size:11px;font-weight:600;"
                f"background:{html.escape(instance.colour)};"
                f"color:{drawing.readable_on(instance.colour)}'>{instance.id}</span>"
                f"<span style='flex:1'>{html.escape(instance.class_name)}</span>"
                f"<span style='opacity:.7'>{share:.1%}</span></div>"
            )
        return "".join(rows) or "<span style='opacity:.7'>no instance yet</span>"


def _recording(source: Any, image: Any, predictor: Any) -> Recording:
    if isinstance(source, Recording):
        if image is not None or predictor is not None:
            raise ValueError("a recording has its picture and masks; give nothing besides it")
        return source
    if is_widget(source):
        if image is not None or predictor is not None:
            raise ValueError("a widget has its picture and network; give nothing besides it")
        return record(source)
    session = read_session(source)
    recording = Recording.from_session(session, image)
    if recording.complete or predictor is None:
        return recording
    if image is None:
        raise DynaMITeError("computing the masks of a session needs its picture: image=…")
    return record(session, image, predictor)
