"""A loaded picture with its name, hash and version: what a session and an embedding belong to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .images import load_image, picture_hash


@dataclass(frozen=True)
class Picture:
    """A loaded picture.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        RGB.
    source : object
        What it was loaded from, for those who want the original bytes.
    name : str
        File name, or "" when unknown.
    hash : str
        Of the pixels.
    version : int
        Counts the pictures of one controller.
    """

    image: NDArray[np.uint8] = field(repr=False)
    source: Any = field(repr=False)
    name: str
    hash: str
    version: int

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.image.shape[1])

    def size_within(self, long_side_px: int) -> tuple[int, int]:
        """Return (height, width) of the copy whose long side is at most `long_side_px`."""
        scale = min(1.0, long_side_px / max(self.height, self.width))
        return max(1, round(self.height * scale)), max(1, round(self.width * scale))


def load_picture(source: Any, name: str | None = None, version: int = 0) -> Picture:
    """Load a picture from whatever `load_image` takes; its file name is the default name.

    A `Picture` that was loaded ahead is taken as it is, under its own name if none is given.
    """
    if isinstance(source, Picture):
        return replace(source, name=source.name if name is None else name, version=version)
    image = load_image(source)
    if name is None:
        is_path = isinstance(source, (str, os.PathLike))
        given = source if is_path else getattr(source, "filename", "")
        is_name = isinstance(given, (str, os.PathLike)) and bool(os.fspath(given))
        name = Path(os.fsdecode(given)).name if is_name else ""
        # Bytes that are no Unicode could not be sent to a page.
        name = name.encode("utf-8", "replace").decode("utf-8")
    return Picture(image, source, name, picture_hash(image), version)
