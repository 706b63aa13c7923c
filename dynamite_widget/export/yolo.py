"""YOLO segmentation: ``labels/<picture>.txt`` with one polygon per line, and ``data.yaml``.

A line can hold one ring. Holes are reached by bridges of no width and survive; separate parts are
joined by lines of one pixel, which is all that is lost without tolerance.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet
from .files import OutputFile, read_bytes
from .options import Options
from .polygons import centre_parts, one_ring, simplify
from .targets import picture_copy, with_stems


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield ``data.yaml``, one text file per picture, and copies of the pictures if asked for."""
    table = path / "data.yaml"
    names = read_names(table) if options.merge and table.exists() else []
    names = list(dict.fromkeys((*names, *annotations.classes)))
    index = {name: number for number, name in enumerate(names)}
    yield OutputFile(table, _data_yaml(names), shared=options.merge)
    for picture, stem in with_stems(annotations):
        lines = "".join(f"{line}\n" for line in _lines(picture, index, options.tolerance))
        yield OutputFile(path / "labels" / f"{stem}.txt", lines.encode(), shared=options.merge)
        if options.copy_images:
            yield picture_copy(picture, path / "images", stem)


def read_names(path: Path) -> list[str]:
    """Return the class names of a ``data.yaml`` in the order of their numbers.

    Raises
    ------
    ExportError
        If the file has none.
    """
    # Through import_module: yaml has no type information.
    yaml: Any = importlib.import_module("yaml")
    try:
        content = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        raise ExportError(f"{str(path)!r} is no YAML file: {error}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and all(isinstance(n, int) and n >= 0 for n in names):
        count = max(names, default=-1) + 1
        if count <= 100_000:
            names = [names.get(number, f"class {number}") for number in range(count)]
    if not isinstance(names, list):
        raise ExportError(f"{str(path)!r} has no list of class names ('names')")
    return [str(name) for name in names]


def _data_yaml(names: list[str]) -> bytes:
    yaml: Any = importlib.import_module("yaml")
    content = {
        "path": ".",
        "train": "images",
        "val": "images",
        "nc": len(names),
        "names": dict(enumerate(names)),
    }
    return str(yaml.safe_dump(content, allow_unicode=True, sort_keys=False)).encode()


def _lines(picture: AnnotatedPicture, index: dict[str, int], tolerance: float) -> Iterator[str]:
    for cutout in picture.cutouts():
        rings = []
        for part in centre_parts(cutout.mask, cutout.x0, cutout.y0):
            rings.append(simplify(part.outer, tolerance))
            rings.extend(simplify(hole, tolerance) for hole in part.holes)
        ring = one_ring(rings)
        points = ring.tolist()
        while len(points) < 3:  # a polygon has three points, if need be the same one
            points.append(points[-1])
        # A quarter of a pixel beyond the corner: readers that round and readers that cut off both
        # get the pixel.
        numbers = [
            f"{(x + 0.25) / picture.width:.7g} {(y + 0.25) / picture.height:.7g}" for x, y in points
        ]
        yield f"{index[cutout.instance.class_name]} {' '.join(numbers)}"
