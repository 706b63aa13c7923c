"""LabelMe: one JSON per picture. Shapes of type "mask" (LabelMe >= 5.3), or polygons on request.

Shapes of one instance share its id as their group.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .annotation_set import AnnotatedPicture, AnnotationSet, Cutout
from .coco import dump_json
from .files import OutputFile
from .options import Options
from .png import encode
from .polygons import centre_parts, simplify
from .targets import each_picture

VERSION = "5.5.0"
"""The version of LabelMe whose format this is."""


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield one file per picture."""
    for picture, target in each_picture(annotations, path, ".json"):
        content = to_labelme(picture, options.polygons, options.tolerance)
        yield OutputFile(target, dump_json(content), shared=options.merge)


def to_labelme(
    picture: AnnotatedPicture, polygons: bool = False, tolerance: float = 0.0
) -> dict[str, Any]:
    """Return a picture as the content of a LabelMe file, without its pixels."""
    shapes = []
    for cutout in picture.cutouts():
        parts = centre_parts(cutout.mask, cutout.x0, cutout.y0) if polygons else []
        rings = [simplify(part.outer, tolerance) for part in parts]
        # LabelMe's polygons have no holes and at least three points.
        if rings and all(not p.holes for p in parts) and all(len(ring) > 2 for ring in rings):
            shapes += [_shape(cutout, "polygon", ring.astype(float).tolist()) for ring in rings]
        else:
            corners = [[cutout.x0, cutout.y0], [cutout.x1 - 1, cutout.y1 - 1]]
            shape = _shape(cutout, "mask", [[float(x), float(y)] for x, y in corners])
            png = encode(cutout.mask.astype(np.uint8) * 255)
            shape["mask"] = base64.b64encode(png).decode("ascii")
            shapes.append(shape)
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": picture.name,
        "imageData": None,
        "imageHeight": picture.height,
        "imageWidth": picture.width,
    }


def _shape(cutout: Cutout, kind: str, points: list[list[float]]) -> dict[str, Any]:
    return {
        "label": cutout.instance.class_name,
        "points": points,
        "group_id": cutout.instance.id,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }
