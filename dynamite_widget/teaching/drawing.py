"""Frames: a step of a recording as an RGB picture, for GIFs, strips and other still uses.

Pillow and numpy; no matplotlib figure and no widget.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..colours import instance_colour, to_rgb
from ..plotting import blend
from ..session_state import SessionState
from .captions import caption
from .recording import Recording

_GREY = 96
_PAPER, _INK, _FAINT = (255, 255, 255), (32, 32, 32), (96, 96, 96)


@lru_cache(maxsize=8)
def font(size_px: int) -> Any:
    """Return a font that has the characters captions use (it comes with matplotlib)."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size_px)


def canvas_of(recording: Recording, long_side_px: int) -> NDArray[np.uint8]:
    """Return the picture (grey without one) with at most this long side."""
    scale = min(1.0, long_side_px / max(recording.height, recording.width))
    size = max(1, round(recording.width * scale)), max(1, round(recording.height * scale))
    if recording.picture is None:
        return np.full((size[1], size[0], 3), _GREY, np.uint8)
    if size == (recording.width, recording.height):
        return recording.picture
    return np.array(Image.fromarray(recording.picture).resize(size, Image.Resampling.LANCZOS))


def nearest(labels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize a label map by its nearest pixels."""
    if labels.shape == (height, width):
        return labels
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    return np.ascontiguousarray(labels[rows[:, None], columns])


def colours_of(state: SessionState) -> dict[int, str]:
    """Return the colour of each instance."""
    return {instance.id: instance.colour for instance in state.instances}


def edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that have a 4-neighbour outside it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def draw_step(
    recording: Recording,
    index: int,
    *,
    long_side_px: int = 640,
    opacity: float = 0.45,
    changes: bool = True,
    captions: bool = True,
) -> NDArray[np.uint8]:
    """Draw one step: masks, clicks, what changed hands, and two lines of text below.

    Parameters
    ----------
    recording : Recording
    index : int
        Step, 0 = the beginning.
    long_side_px : int
        Of the picture, without the text.
    opacity : float
        Of the masks, 0..1.
    changes : bool
        Outline in white the pixels that changed hands in this step.
    captions : bool
        Whether to write text below.

    Returns
    -------
    (h, w, 3) uint8 array
    """
    base = canvas_of(recording, long_side_px)
    height, width = base.shape[:2]
    step = recording.steps[index]
    labels = nearest(recording.label_map(index), height, width)
    frame = blend(base, labels, colours_of(step.state), opacity)
    if changes and index > 0 and recording.known[index]:
        changed = labels != nearest(recording.label_map(index - 1), height, width)
        frame[edge(changed)] = 255
    image = Image.fromarray(frame)
    draw_clicks(image, step.state, newest=step.click)
    if captions:
        image = _with_caption(image, f"{index}. {caption(recording, index)[0]}", index, recording)
    return np.array(image)


def draw_clicks(image: Image.Image, state: SessionState, newest: int | None = None) -> None:
    """Draw the clicks of a state onto a picture of any size, in place."""
    pen = ImageDraw.Draw(image)
    colours = colours_of(state)
    across, down = image.width / state.width, image.height / state.height
    radius = max(4, round(max(image.width, image.height) / 90))
    for click in state.clicks:
        x, y = (click.x + 0.5) * across, (click.y + 0.5) * down
        r = radius * (1.5 if click.t == newest else 1)
        box = (x - r, y - r, x + r, y + r)
        if click.instance:
            colour = colours.get(click.instance) or instance_colour(click.instance)
            pen.ellipse(box, fill=to_rgb(colour), outline="white", width=max(1, radius // 3))
            _centred(pen, (x, y), str(click.instance), round(r * 1.4), readable_on(colour))
        else:
            pen.ellipse(box, fill="black", outline="white", width=max(1, radius // 3))
            arm = r * 0.45
            width = max(1, radius // 3)
            pen.line((x - arm, y - arm, x + arm, y + arm), fill="white", width=width)
            pen.line((x - arm, y + arm, x + arm, y - arm), fill="white", width=width)


def gif(
    recording: Recording, *, seconds_per_step: float = 0.9, long_side_px: int = 480, **options: Any
) -> bytes:
    """Return an animated GIF of all steps; the last one stays longer, then it starts again."""
    frames = [
        Image.fromarray(draw_step(recording, i, long_side_px=long_side_px, **options))
        for i in range(len(recording))
    ]
    # One palette for all frames: pixels that do not change compress to nothing, and do not flicker.
    sample = Image.new("RGB", (frames[0].width, frames[0].height * 2))
    sample.paste(frames[len(frames) // 2], (0, 0))
    sample.paste(frames[-1], (0, frames[0].height))
    palette = sample.quantize(255)
    reduced = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    pace = max(20, round(seconds_per_step * 1000))
    durations = [pace] * (len(frames) - 1) + [3 * pace]
    buffer = io.BytesIO()
    reduced[0].save(
        buffer,
        "GIF",
        save_all=True,
        append_images=reduced[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def strip(
    recording: Recording,
    *,
    steps: Sequence[int] | None = None,
    columns: int = 4,
    long_side_px: int = 400,
    **options: Any,
) -> NDArray[np.uint8]:
    """Return steps side by side in rows, as one (h, w, 3) uint8 picture."""
    chosen = range(len(recording)) if steps is None else steps
    if not len(chosen) or columns < 1:
        raise ValueError(f"a strip needs steps and columns >= 1, got {steps!r} and {columns}")
    frames = [draw_step(recording, i, long_side_px=long_side_px, **options) for i in chosen]
    gap = 8
    height, width = frames[0].shape[:2]
    across, down = min(columns, len(frames)), -(-len(frames) // columns)
    sheet = np.full((down * (height + gap) - gap, across * (width + gap) - gap, 3), 255, np.uint8)
    for place, frame in enumerate(frames):
        row, column = divmod(place, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def _with_caption(image: Image.Image, first: str, index: int, recording: Recording) -> Image.Image:
    size = max(10, round(image.width / 38))
    line = round(size * 1.45)
    paper = Image.new("RGB", (image.width, image.height + 2 * line + size), _PAPER)
    paper.paste(image, (0, 0))
    pen = ImageDraw.Draw(paper)
    top = image.height + size // 2
    room = image.width - size
    pen.text((size // 2, top), _fit(first, size, room), font=font(size), fill=_INK)
    second = caption(recording, index)[1]
    pen.text((size // 2, top + line), _fit(second, size, room), font=font(size), fill=_FAINT)
    return paper


def _fit(text: str, size: int, room: float) -> str:
    """Leave out the last clauses, or else the last letters, of a line that is too long."""
    if font(size).getlength(text) <= room:
        return text
    clauses = text.rstrip(".").split("; ")
    while len(clauses) > 1:
        clauses.pop()
        text = "; ".join(clauses) + " …"
        if font(size).getlength(text) <= room:
            return text
    while text and font(size).getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _centred(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, fill: str
) -> None:
    pen.text(place, text, font=font(max(6, size)), fill=fill, anchor="mm")


def readable_on(colour: str) -> str:
    """Return black or white, whichever is easier to read on a colour."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
