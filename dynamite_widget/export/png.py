"""PNG files with labels, masks and notes: the part that all PNG formats share."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..colours import to_rgb
from ..errors import ExportError

NOTE = "dynamite"


def encode(
    array: NDArray[Any],
    *,
    colours: Mapping[int, str] | None = None,
    palette: list[int] | None = None,
    note: Mapping[str, Any] | None = None,
    deep: bool = False,
) -> bytes:
    """Return a PNG file.

    Parameters
    ----------
    array : (H, W) integer or (H, W, 3 or 4) uint8 array
        Two-dimensional ones become indexed (values up to 255, when there are colours) or gray with
        8 or 16 bits.
    colours : mapping from value to "#rrggbb", optional
        Of an indexed PNG; 0 is black.
    palette : list of int, optional
        In place of `colours`: red, green, blue of each value.
    note : mapping, optional
        Stored as JSON in a text chunk, which `decode` gives back.
    deep : bool
        16 bits even if 8 would do.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if array.ndim == 2:
        deep = deep or (array.size > 0 and int(array.max()) > 255)
        array = array.astype(np.uint16 if deep else np.uint8)
        if colours is not None and palette is None:
            palette = [0, 0, 0] * 256
            for value, colour in colours.items():
                if 0 < value < 256:
                    palette[3 * value : 3 * value + 3] = to_rgb(colour)
    picture = Image.fromarray(np.ascontiguousarray(array))
    if palette is not None and array.dtype == np.uint8 and array.ndim == 2:
        picture.putpalette(palette)
    info = PngInfo()
    if note is not None:
        info.add_itxt(NOTE, json.dumps(note, allow_nan=False), zip=True)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def decode(data: bytes, name: str) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return the values (H, W) of a gray or indexed picture file, and its note ({} if none).

    A colour picture counts as indexed if its channels are equal.

    Raises
    ------
    ExportError
        If it is no such file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            text = getattr(picture, "text", {}).get(NOTE)
            array = np.asarray(picture)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ExportError(f"{name!r} is no readable picture: {error}") from error
    if array.ndim == 3 and (array[:, :, :1] == array[:, :, :3]).all():
        array = array[:, :, 0]
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise ExportError(
            f"{name!r} is no label map: gray or indexed values are needed, got an array of shape "
            f"{array.shape} and dtype {array.dtype}"
        )
    note: Any = {}
    if isinstance(text, str):
        try:
            note = json.loads(text)
        except ValueError:
            note = {}
    return array, note if isinstance(note, dict) else {}
