"""Tables for analysis: pandas data frames and supervision detections. Both are optional."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ExportError
from ..label_maps import statistics_of
from .annotation_set import AnnotatedPicture, AnnotationSet


def rows(annotations: AnnotationSet) -> Iterator[dict[str, Any]]:
    """Yield one record per instance: picture, id, class, area, box, score, clicks, seconds, edits.

    Area in pixels; the box is x0, y0, x1, y1 with exclusive ends, zeros without pixels.
    """
    for picture in annotations:
        table = statistics_of(picture.label_map, picture.ids).tolist()
        for instance, (area, *box) in zip(picture.instances, table, strict=True):
            yield {
                "picture": picture.name,
                "id": instance.id,
                "class_name": instance.class_name,
                "area": area,
                "bbox": tuple(box),
                "score": instance.score,
                "clicks": len(instance.clicks),
                "seconds": instance.seconds,
                "edits": instance.edits,
            }


def to_dataframe(annotations: AnnotationSet | AnnotatedPicture) -> Any:
    """Return a pandas data frame with the columns of `rows`.

    Raises
    ------
    ExportError
        If pandas is not installed.
    """
    pandas = _optional("pandas")
    if isinstance(annotations, AnnotatedPicture):
        annotations = AnnotationSet([annotations])
    columns = ["picture", "id", "class_name", "area", "bbox", "score", "clicks", "seconds", "edits"]
    return pandas.DataFrame(list(rows(annotations)), columns=columns)


def to_supervision(picture: AnnotatedPicture) -> Any:
    """Return ``supervision.Detections`` of the instances that have pixels.

    ``class_id`` counts `picture.classes`; ``data`` holds ``class_name`` and ``instance_id``.

    Raises
    ------
    ExportError
        If supervision is not installed.
    """
    supervision = _optional("supervision")
    found = list(picture.cutouts())
    index = {name: number for number, name in enumerate(picture.classes)}
    masks = np.zeros((len(found), picture.height, picture.width), bool)
    for plane, cutout in zip(masks, found, strict=True):
        plane[cutout.y0 : cutout.y1, cutout.x0 : cutout.x1] = cutout.mask
    boxes = np.asarray([(c.x0, c.y0, c.x1, c.y1) for c in found], float).reshape(-1, 4)
    return supervision.Detections(
        xyxy=boxes,
        mask=masks,
        confidence=np.asarray([c.instance.score for c in found], float),
        class_id=np.asarray([index[c.instance.class_name] for c in found], int),
        data={
            "class_name": np.asarray([c.instance.class_name for c in found], np.str_),
            "instance_id": np.asarray([c.instance.id for c in found], int),
        },
    )


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExportError(f"this needs {name}: pip install {name}") from error
