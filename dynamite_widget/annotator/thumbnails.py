"""Small pictures for the strip and the review grid, with the masks of their sessions on top."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from ..errors import DynaMITeError
from ..export.sessions import masks_of_session
from ..images import load_image
from ..plotting import blend
from ..session import ClickSession
from ..snapshot import shrink_labels
from .proposals import Proposal

logger = logging.getLogger(__name__)

LONG_SIDE_PX = 220
PROPOSAL_PX = 320
_QUALITY = 80
_SMALL_FILE_MEGAPIXELS = 200.0


def thumbnail(source: Any, session: ClickSession | None, long_side_px: int = LONG_SIDE_PX) -> bytes:
    """Return a JPEG of a picture and the masks that its session knows.

    Raises
    ------
    ImageError
        If the picture cannot be read.
    """
    small = small_copy(source, long_side_px)
    if session is not None and session.state.instances:
        small = _with_masks(small, session)
    return _jpeg(small)


def proposal_sheet(image: NDArray[np.uint8], proposals: tuple[Proposal, ...]) -> bytes:
    """Return a JPEG of a picture with the first proposal bright and the others faint."""
    height, width = image.shape[:2]
    scale = min(1.0, PROPOSAL_PX / max(height, width))
    small = Image.fromarray(image).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), reducing_gap=2.0
    )
    if proposals and proposals[0].mask is not None:
        mask = proposals[0].mask
        if (mask.height, mask.width) == (height, width):
            labels = shrink_labels(mask.decode().astype(np.int32), small.height, small.width)
            small = Image.fromarray(blend(np.asarray(small), labels, {1: "#ffd400"}))
    draw = ImageDraw.Draw(small)
    for number in reversed(range(len(proposals))):
        x0, y0, x1, y1 = (v * scale for v in proposals[number].bounds())
        if proposals[number].kind == "point":
            x0, y0, x1, y1 = x0 - 6, y0 - 6, x1 + 6, y1 + 6
        box = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
        first = number == 0
        # Dark below bright, so that it is seen on any picture.
        draw.rectangle(box, outline="#000000", width=5 if first else 3)
        draw.rectangle(box, outline="#ffd400" if first else "#ffffff", width=3 if first else 1)
    return _jpeg(small)


def small_copy(source: Any, long_side_px: int) -> Image.Image:
    """Return a picture at most `long_side_px` long, RGB; JPEG files are not decoded in full."""
    if isinstance(source, (str, os.PathLike)):
        try:
            with Image.open(Path(source)) as picture:
                if picture.format == "JPEG" and picture.mode in ("RGB", "L"):
                    picture.draft("RGB", (long_side_px, long_side_px))
                    upright = ImageOps.exif_transpose(picture).convert("RGB")
                    upright.thumbnail((long_side_px, long_side_px))
                    return upright
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            logger.debug("%s is not read the quick way: %s", source, error)
    image = Image.fromarray(load_image(source, _SMALL_FILE_MEGAPIXELS))
    image.thumbnail((long_side_px, long_side_px), reducing_gap=2.0)
    return image


def _with_masks(small: Image.Image, session: ClickSession) -> Image.Image:
    state = session.state
    colours = {i.id: i.colour for i in state.instances}
    try:
        labels = masks_of_session(session).label_map
    except DynaMITeError:
        labels = None  # not computed yet; the clicks say where the instances are
    if labels is not None:
        shrunk = shrink_labels(labels, small.height, small.width)
        return Image.fromarray(blend(np.asarray(small), shrunk, colours))
    draw = ImageDraw.Draw(small)
    for click in state.clicks:
        x, y = click.x * small.width / state.width, click.y * small.height / state.height
        colour = colours.get(click.instance, "#000000")
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour, outline="#ffffff")
    return small


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
