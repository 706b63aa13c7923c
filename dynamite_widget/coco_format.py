"""Reading COCO-format and LVIS-format files: what training and evaluation share.

Refuses what is unusable; the forgiving reader for other tools' files is
`dynamite_widget.importing.coco`.
"""

from __future__ import annotations

import gzip
import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError


def read_coco_file(path: Path) -> dict[str, Any]:
    """Read an annotation file (``.json`` or ``.json.gz``).

    Raises
    ------
    DataError
        If it cannot be read or lacks the lists ``images`` and ``annotations``.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        content = json.loads(raw)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"cannot read annotation file {str(path)!r}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object with 'images' and 'annotations'")
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{path}: no list {key!r}; this is not a COCO-format file")
    return content


def picture_name(image: Mapping[str, Any]) -> str:
    """Return the file name of an image entry; KeyError if it has none.

    LVIS gives only a URL whose last two parts are folder and file.
    """
    if image.get("file_name"):
        return str(image["file_name"])
    if image.get("coco_url"):
        return "/".join(str(image["coco_url"]).split("/")[-2:])
    raise KeyError("file_name")


def read_segment(annotation: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return the compressed RLE of an annotation (polygons, raw or compressed RLE).

    Parameters
    ----------
    annotation : mapping
        With ``segmentation``.
    height, width : int
        Of its picture, in pixels.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the shape is missing, malformed, or of another size.
    """
    from pycocotools import mask as rle

    shape = annotation["segmentation"]
    if isinstance(shape, list):
        polygons = [np.asarray(p, float).ravel().tolist() for p in shape if np.asarray(p).size >= 6]
        if not polygons:
            raise ValueError("polygon with fewer than 3 points")
        return rle.merge(rle.frPyObjects(polygons, height, width))
    if not isinstance(shape, dict) or "counts" not in shape:
        raise ValueError("segmentation is neither polygons nor RLE")
    if [int(v) for v in shape.get("size", (height, width))] != [height, width]:
        raise ValueError(f"RLE of size {shape['size']} in a picture of {[height, width]}")
    if isinstance(shape["counts"], list):
        if sum(shape["counts"]) != height * width:
            raise ValueError("RLE counts do not add up to the picture")
        return rle.frPyObjects({"counts": shape["counts"], "size": [height, width]}, height, width)
    counts = shape["counts"]
    return {
        "size": [height, width],
        "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
    }


def decode_segment(segment: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Decode a compressed RLE to an (H, W) uint8 mask of zeros and ones."""
    from pycocotools import mask as rle

    with warnings.catch_warnings():
        # its compiled part predates numpy 2; the value is right
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.asarray(rle.decode(segment), np.uint8)
