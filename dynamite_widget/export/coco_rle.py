"""COCO's run lengths (column-major) and polygons, through pycocotools; decoding in numpy.

pycocotools' own decoder trusts damaged counts and warns with numpy 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[Any], height: int, width: int, x0: int = 0, y0: int = 0) -> dict[str, Any]:
    """Return the compressed RLE of a mask whose corner is pixel (x0, y0), ready for JSON."""
    from pycocotools import mask as coco_rle

    # Filled as (width, height) in C order, which is the column-major picture that COCO wants.
    columns = np.zeros((width, height), np.uint8)
    columns[x0 : x0 + mask.shape[1], y0 : y0 + mask.shape[0]] = mask.T
    encoded = coco_rle.encode(columns.T)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def decode(counts: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return the (height, width) bool mask of compressed (text) or raw (list) run lengths.

    Raises
    ------
    ValueError
        If they do not add up to the picture.
    """
    if isinstance(counts, (str, bytes)):
        counts = _run_lengths(counts)
    lengths = np.asarray(counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != height * width:
        raise ValueError("RLE counts do not add up to the picture")
    inside = np.arange(lengths.size) % 2 == 1
    mask: NDArray[np.bool_] = np.repeat(inside, lengths).reshape(width, height).T
    return mask


def fill(
    polygons: Sequence[NDArray[np.number[Any]]], height: int, width: int
) -> list[NDArray[np.bool_]]:
    """Fill polygons, (N, 2) x, y along pixel edges each, as COCO's tools do."""
    from pycocotools import mask as coco_rle

    rings = [np.asarray(polygon, float).ravel().tolist() for polygon in polygons]
    return [decode(r["counts"], height, width) for r in coco_rle.frPyObjects(rings, height, width)]


def _run_lengths(text: str | bytes) -> list[int]:
    """Return the run lengths of a compressed RLE: differences in groups of 5 bits, as text."""
    data = text.encode("ascii") if isinstance(text, str) else text
    counts: list[int] = []
    position = 0
    while position < len(data):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(data) or shift > 60:
                raise ValueError("a compressed RLE that ends within a number")
            part = data[position] - 48
            if not 0 <= part < 64:
                raise ValueError("a compressed RLE with unknown characters")
            value |= (part & 0x1F) << shift
            more = bool(part & 0x20)
            position, shift = position + 1, shift + 5
            if not more and part & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
