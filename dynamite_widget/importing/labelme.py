"""LabelMe: polygons, rectangles, circles and masks; shapes of one group are one instance."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotatedPicture, AnnotationSet
from ..export.coco import load_json
from ..export.png import decode
from ..export.polygons import fill_centres
from .reading import NUMBER_ERRORS, Draft, Problems


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read one file, or all of a folder; points and lines are left out with a warning."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ExportError(f"no LabelMe files (*.json) in {str(path)!r}")
    return AnnotationSet([_picture(file) for file in files])


def _picture(file: Path) -> AnnotatedPicture:
    content = load_json(file)
    problems = Problems(file)
    try:
        name = str(content.get("imagePath") or file.with_suffix(".png").name)
        draft = Draft(
            name.replace("\\", "/").rsplit("/", 1)[-1],
            content["imageHeight"],
            content["imageWidth"],
        )
        shapes = list(content["shapes"])
    except NUMBER_ERRORS as error:
        raise ExportError(f"{str(file)!r} is no LabelMe file: {error!r:.120}") from error
    masks: dict[Any, tuple[np.ndarray, Any, Any]] = {}
    for index, shape in enumerate(shapes):
        try:
            mask = _mask(shape, draft.height, draft.width)
            if not mask.any():
                raise ValueError("an empty mask")
            label, group = shape.get("label"), shape.get("group_id")
            key = ("alone", index) if group is None else (str(label), group)
            if key in masks:
                mask = mask | masks[key][0]
            masks[key] = (mask, label, group)
        except (*NUMBER_ERRORS, binascii.Error) as error:
            problems.add(f"shape {index}: {error}")
    for mask, label, group in masks.values():
        draft.add(mask, label, group)
    problems.report()
    return draft.finish()[0]


def _mask(shape: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    kind = shape.get("shape_type") or "polygon"
    points = np.asarray(shape["points"], float).reshape(-1, 2)
    if not np.isfinite(points).all() or (np.abs(points) > 1e7).any():
        raise ValueError("coordinates that are no pixels")
    if kind == "polygon":
        if len(points) < 3:
            raise ValueError(f"a polygon with {len(points)} points")
        return fill_centres([points], height, width)
    (x0, y0), (x1, y1) = points[:2]
    out = np.zeros((height, width), bool)
    if kind == "circle":  # centre and a point on the circle
        ys, xs = np.ogrid[:height, :width]
        return (xs - x0) ** 2 + (ys - y0) ** 2 <= (x1 - x0) ** 2 + (y1 - y0) ** 2
    left, right = sorted((round(float(x0)), round(float(x1))))
    top, bottom = sorted((round(float(y0)), round(float(y1))))
    if kind == "rectangle":
        out[max(0, top) : bottom + 1, max(0, left) : right + 1] = True
        return out
    if kind == "mask":
        values, _ = decode(base64.b64decode(shape["mask"], validate=True), "mask")
        part = values[: max(0, height - top), : max(0, width - left)] != 0
        if top < 0 or left < 0:
            raise ValueError("a mask that begins outside the picture")
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out
    raise ValueError(f"shapes of type {kind!r:.40} have no area")
