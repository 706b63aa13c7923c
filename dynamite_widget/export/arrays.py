"""NPZ: label map and tables of one picture as numpy arrays, readable without pickle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..label_maps import statistics_of
from .annotation_set import AnnotatedPicture, AnnotationSet
from .files import OutputFile
from .options import Options
from .targets import each_picture


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield one file per picture."""
    for picture, target in each_picture(annotations, path, ".npz"):
        yield OutputFile(target, to_npz(picture), shared=options.merge)


def to_npz(picture: AnnotatedPicture) -> bytes:
    """Return ``label_map, ids, class_names, scores, areas, boxes, name, classes``.

    ``label_map`` is (H, W) uint16; ``boxes`` is (N, 4) x0, y0, x1, y1 with exclusive ends.
    """
    label_map = picture.label_map
    table = statistics_of(label_map, picture.ids)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        label_map=label_map.astype(np.uint16),
        ids=np.asarray(picture.ids, np.int32),
        class_names=np.asarray([i.class_name for i in picture.instances], np.str_),
        scores=np.asarray([i.score for i in picture.instances], np.float32),
        areas=table[:, 0],
        boxes=table[:, 1:],
        name=np.asarray(picture.name.encode("utf-8", "replace").decode()),
        classes=np.asarray(picture.classes, np.str_),
    )
    return buffer.getvalue()
