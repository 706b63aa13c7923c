"""COCO panoptic: the JSON file, and its PNGs in the folder of the same name beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.coco import load_json
from ..export.files import read_bytes
from .reading import NUMBER_ERRORS, Draft, Problems, class_of, colour_of


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a file with its PNGs; ExportError if it is none."""
    content = load_json(path)
    problems = Problems(path)
    pictures = []
    try:
        names = {c["id"]: class_of(c["name"]) for c in content["categories"]}
        entries = {entry["id"]: entry for entry in content["images"]}
        records = list(content["annotations"])
    except NUMBER_ERRORS as error:
        raise ExportError(f"{str(path)!r} is no COCO panoptic file: {error!r}") from error
    for record in records:
        try:
            entry = entries[record["image_id"]]
            labels = _labels(path.with_suffix("") / Path(record["file_name"]).name)
            draft = Draft(entry["file_name"], *labels.shape)
            for segment in record["segments_info"]:
                number = int(segment["id"])
                extra = segment.get("dynamite")
                own = isinstance(extra, Mapping)
                draft.add(
                    labels == number,
                    names.get(segment["category_id"], "object"),
                    number if own else None,
                    crowd=bool(segment.get("iscrowd")),
                    colour=colour_of(extra),
                )
            pictures.append(draft.finish(classes=tuple(names.values()))[0])
        except NUMBER_ERRORS as error:
            if isinstance(error, ExportError):
                raise
            problems.add(f"an annotation ({error!r:.120})")
    problems.report()
    return AnnotationSet(pictures)


def _labels(path: Path) -> np.ndarray:
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(read_bytes(path))) as picture:
            channels = np.asarray(picture.convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError) as error:
        raise ExportError(f"{str(path)!r} is no readable picture: {error}") from error
    total: Any = channels @ np.asarray([1, 256, 65536])
    return np.asarray(total)
