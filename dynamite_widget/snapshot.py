"""What a saved notebook keeps of a widget: a thumbnail, its labels and clicks, within 100 kB.

Also the small overlay picture for viewers that know no widgets.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .answers import Result
from .colours import to_rgb
from .messages import click_records, instance_records
from .picture import Picture
from .rle import encode
from .session_state import SessionState

THUMBNAIL_PX = 480
BUDGET_BYTES = 96_000
"""For all traits of a widget together; the rest of 100 kB is for the traits of ipywidgets."""
_QUALITIES = (85, 75, 65, 50, 35, 20)
_OPACITY = 0.5


def thumbnail(picture: Picture, long_side_px: int = THUMBNAIL_PX) -> Image.Image:
    """Return a small copy of a picture."""
    height, width = picture.size_within(long_side_px)
    # Striding first makes it quick for huge pictures; the resize smooths what is left.
    step = max(1, min(picture.height // height, picture.width // width) // 3)
    small = Image.fromarray(np.ascontiguousarray(picture.image[::step, ::step]))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def shrink_labels(labels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return a label map at a smaller size, by nearest neighbour."""
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    return labels[rows[:, None], columns]


def make_snapshot(
    small: Image.Image, picture: Picture, state: SessionState, result: Result | None
) -> dict[str, Any]:
    """Return the trait ``snapshot``.

    The thumbnail takes what clicks, instances and labels leave of the budget; labels are made
    smaller if they are too many runs. Clicks and instances are also traits of their own, so they
    count twice.
    """
    clicks, instances = click_records(state), instance_records(state, result)
    spent = 2 * len(json.dumps([clicks, instances])) + 2000
    if spent > BUDGET_BYTES // 2:
        # Thousands of clicks: the traits have them, the snapshot goes without.
        spent -= len(json.dumps(clicks))
        clicks = []
    room = max(4000, BUDGET_BYTES - spent)
    labels = None
    if result is not None and result.picture.version == picture.version:
        labels = _labels(result.labels, small.height, small.width, room // 2)
    room -= len(json.dumps(labels))
    return {
        "version": picture.version,
        "width": picture.width,
        "height": picture.height,
        "mime": "image/jpeg",
        "thumbnail": _text(_jpeg(small, room * 3 // 4)),
        "thumb_width": small.width,
        "thumb_height": small.height,
        "labels": labels,
        "clicks": clicks,
        "instances": instances,
    }


def overlay_png(
    small: Image.Image, state: SessionState, result: Result | None, limit_bytes: int = 60_000
) -> bytes:
    """Return the picture with its masks and clicks as a small PNG."""
    long_side = max(small.size)
    while True:
        scale = min(1.0, long_side / max(small.size))
        size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
        image = draw_overlay(small.resize(size), state, result)
        buffer = io.BytesIO()
        image.quantize(64, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= limit_bytes or long_side <= 64:
            return buffer.getvalue()
        long_side = long_side * 3 // 4


def draw_overlay(small: Image.Image, state: SessionState, result: Result | None) -> Image.Image:
    """Blend masks in the colours of their instances over a picture, and mark the clicks."""
    from PIL import ImageDraw

    pixels = np.asarray(small.convert("RGB"), np.float32)
    if result is not None:
        labels = shrink_labels(result.labels, small.height, small.width)
        table = np.zeros((max(state.next_id, int(labels.max(initial=0)) + 1), 4), np.float32)
        for instance in state.instances:
            if instance.visible:
                table[instance.id] = (*to_rgb(instance.colour), _OPACITY)
        colour = table[labels]
        pixels = pixels + colour[..., 3:] * (colour[..., :3] - pixels)
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x_step, y_step = small.width / state.width, small.height / state.height
    colours = {i.id: i.colour for i in state.instances}
    for click in state.clicks:
        x, y = (click.x + 0.5) * x_step, (click.y + 0.5) * y_step
        box = (x - 3, y - 3, x + 3, y + 3)
        if click.instance:
            draw.ellipse(box, fill=colours[click.instance], outline="#ffffff")
        else:
            draw.rectangle(box, fill="#000000", outline="#ffffff")
    return image


def _labels(labels: NDArray[Any], height: int, width: int, room: int) -> dict[str, Any] | None:
    while True:
        lengths, ids = encode(shrink_labels(labels, height, width))
        packed = {
            "width": width,
            "height": height,
            "encoding": "rle",
            "id_bytes": ids.dtype.itemsize,
            "lengths": _text(lengths.astype("<u4").tobytes()),
            "ids": _text(ids.astype(ids.dtype.newbyteorder("<")).tobytes()),
        }
        if len(json.dumps(packed)) <= room:
            return packed
        if max(height, width) <= 32:
            return None
        height, width = max(1, height * 2 // 3), max(1, width * 2 // 3)


def _jpeg(small: Image.Image, limit_bytes: int) -> bytes:
    image = small.convert("RGB")
    while True:
        data = b""
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            data = buffer.getvalue()
            if len(data) <= limit_bytes:
                return data
        if max(image.size) <= 16:
            return data
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
