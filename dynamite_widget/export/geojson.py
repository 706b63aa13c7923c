"""GeoJSON: one FeatureCollection per picture, polygons along pixel edges, holes included.

Coordinates are pixels (x to the right, y down; the picture spans 0..width and 0..height) or what an
affine transform makes of them. Rings turn as RFC 7946 asks, in the coordinates written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .annotation_set import AnnotatedPicture, AnnotationSet
from .coco import clicks_record, dump_json
from .files import OutputFile
from .options import Options, simplified_parts
from .polygons import Ring
from .targets import each_picture


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield one file per picture."""
    suffix = ".json" if path.suffix.lower() == ".json" else ".geojson"
    for picture, target in each_picture(annotations, path, suffix):
        content = to_geojson(picture, options.tolerance, options.transform)
        yield OutputFile(target, dump_json(content), shared=options.merge)


def to_geojson(
    picture: AnnotatedPicture,
    tolerance: float = 0.0,
    transform: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """Return a picture as a FeatureCollection; see `Options` for tolerance and transform.

    An instance without pixels has a null geometry.
    """
    shapes = {cutout.instance.id: cutout for cutout in picture.cutouts()}
    features = []
    for instance in picture.instances:
        cutout = shapes.get(instance.id)
        geometry = None
        if cutout is not None:
            polygons = [
                [
                    _ring(part.outer, transform, counterclockwise=True),
                    *(_ring(hole, transform, counterclockwise=False) for hole in part.holes),
                ]
                for part in simplified_parts(cutout, tolerance)
            ]
            if len(polygons) == 1:
                geometry = {"type": "Polygon", "coordinates": polygons[0]}
            else:
                geometry = {"type": "MultiPolygon", "coordinates": polygons}
        features.append(
            {
                "type": "Feature",
                "id": instance.id,
                "geometry": geometry,
                "properties": {
                    "id": instance.id,
                    "class": instance.class_name,
                    "score": instance.score,
                    "area_px": 0 if cutout is None else cutout.area,
                    "colour": instance.colour,
                    "clicks": clicks_record(instance.clicks),
                    "seconds": instance.seconds,
                    "edits": instance.edits,
                },
            }
        )
    return {
        "type": "FeatureCollection",
        "name": picture.name,
        "width": picture.width,
        "height": picture.height,
        "transform": None if transform is None else list(transform),
        "features": features,
    }


def _ring(
    ring: Ring, transform: tuple[float, ...] | None, counterclockwise: bool
) -> list[list[float]]:
    points = ring.astype(float)
    if transform is not None:
        a, b, c, d, e, f = transform
        x, y = points[:, 0], points[:, 1]
        points = np.stack((a * x + b * y + c, d * x + e * y + f), axis=1)
    x, y = points[:, 0] - points[0, 0], points[:, 1] - points[0, 1]
    twice_area = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    if (twice_area > 0) != counterclockwise:
        points = points[::-1]
    closed = np.concatenate((points, points[:1])).tolist()
    return [[int(v) if v == int(v) else v for v in point] for point in closed]
