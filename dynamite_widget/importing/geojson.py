"""GeoJSON files of this package: polygons along pixel edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotatedPicture, AnnotationSet
from ..export.coco import load_json
from ..export.polygons import Part, fill_edges
from .reading import NUMBER_ERRORS, Draft, colour_of


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read one file, or all of a folder; coordinates go back through the stored transform."""
    files = sorted(path.glob("*.geojson")) if path.is_dir() else [path]
    if not files:
        raise ExportError(f"no .geojson files in {str(path)!r}")
    return AnnotationSet([_picture(file) for file in files])


def _picture(file: Path) -> AnnotatedPicture:
    content = load_json(file)
    try:
        draft = Draft(content["name"], content["height"], content["width"])
        a, b, c, d, e, f = content.get("transform") or (1, 0, 0, 0, 1, 0)
        back = np.linalg.inv(np.asarray(((a, b, c), (d, e, f), (0, 0, 1)), float))
        for feature in content["features"]:
            properties, geometry = feature["properties"], feature["geometry"]
            polygons: list[Any] = []
            if geometry is not None:
                polygons = geometry["coordinates"]
                polygons = [polygons] if geometry["type"] == "Polygon" else polygons
            parts = [_part(rings, back) for rings in polygons]
            draft.add(
                fill_edges(parts, draft.height, draft.width),
                properties["class"],
                properties["id"],
                colour=colour_of(properties),
            )
        return draft.finish()[0]
    except (*NUMBER_ERRORS, np.linalg.LinAlgError) as error:
        raise ExportError(
            f"{str(file)!r} is no GeoJSON file of this package: {error!r:.120}"
        ) from error


def _part(rings: Any, back: np.ndarray) -> Part:
    # Rounded to a thousandth: the way there and back must not move a corner off its pixel edge.
    turned = []
    for ring in rings:
        points = np.asarray(ring, float)[:, :2]
        turned.append(np.round(points @ back[:2, :2].T + back[:2, 2], 3))
    return Part(turned[0], tuple(turned[1:]))
