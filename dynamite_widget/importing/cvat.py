"""CVAT for images 1.1: masks, polygons and boxes; shapes of one group are one instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from ..export.annotation_set import AnnotationSet
from ..export.cvat import parse
from ..export.polygons import Part, fill_edges
from .reading import NUMBER_ERRORS, Draft, Problems, class_of


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a file; points and lines are left out with a warning."""
    root = parse(path)
    problems = Problems(path)
    classes = tuple(class_of(name.text) for name in root.findall(".//labels/label/name"))
    pictures = []
    for image in root.findall("image"):
        try:
            draft = Draft(image.get("name"), image.get("height"), image.get("width"))
        except NUMBER_ERRORS as error:
            problems.add(f"image {image.get('name')!r:.60}: {error}")
            continue
        masks: dict[Any, tuple[np.ndarray, str, int | None]] = {}
        for index, shape in enumerate(image):
            try:
                mask = _mask(shape, draft.height, draft.width)
                group = int(shape.get("group_id") or 0) or None
                label = class_of(shape.get("label"))
                key = ("alone", index) if group is None else (label, group)
                if key in masks:
                    mask = mask | masks[key][0]
                masks[key] = (mask, label, group)
            except NUMBER_ERRORS as error:
                problems.add(f"shape {index} of {draft.name!r}: {error}")
        for mask, label, group in masks.values():
            draft.add(mask, label, group)
        pictures.append(draft.finish(classes=classes)[0])
    problems.report()
    return AnnotationSet(pictures)


def _mask(shape: Element, height: int, width: int) -> np.ndarray:
    fields = shape.attrib
    out = np.zeros((height, width), bool)
    if shape.tag == "mask":
        counts = np.asarray([int(word) for word in fields["rle"].split(",")], np.int64)
        left, top, w, h = (int(fields[key]) for key in ("left", "top", "width", "height"))
        if (counts < 0).any() or int(counts.sum()) != w * h or min(left, top) < 0:
            raise ValueError("run lengths that do not fill their box")
        part = np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(h, w)
        out[top : top + h, left : left + w] = part[: height - top, : width - left]
        return out
    if shape.tag == "polygon":
        points = [[float(v) for v in pair.split(",")] for pair in fields["points"].split(";")]
        ring = np.asarray(points, float).reshape(-1, 2)
        if len(ring) < 3 or not np.isfinite(ring).all() or (np.abs(ring) > 1e7).any():
            raise ValueError("a polygon without three points")
    elif shape.tag == "box":
        x0, y0, x1, y1 = (float(fields[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        ring = np.asarray([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    else:
        raise ValueError(f"{shape.tag!r:.40} has no area")
    return fill_edges([Part(ring, ())], height, width)
