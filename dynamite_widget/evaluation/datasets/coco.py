"""Evaluation on COCO-format and LVIS-format files, with pictures in folders or tar files."""

from __future__ import annotations

import io
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...coco_format import decode_segment, picture_name, read_coco_file, read_segment
from ...errors import DataError
from ...training.pictures import PictureStore
from ..samples import Sample, make_sample
from .base import Entry, EvaluationDataset, need

COCO_HELP = (
    "COCO: download annotations_trainval2017.zip and val2017.zip from https://cocodataset.org "
    "and unpack both."
)
LVIS_HELP = (
    "LVIS: download lvis_v1_val.json from https://www.lvisdataset.org and the pictures "
    "train2017.zip and val2017.zip from https://cocodataset.org."
)


def open_coco(
    annotations: str | Path,
    pictures: str | Path | None = None,
    *,
    min_area_fraction: float = 0.0,
    name: str | None = None,
    how_to_get: str = COCO_HELP,
) -> EvaluationDataset:
    """Open a COCO-format or LVIS-format file (``.json`` or ``.json.gz``).

    Parameters
    ----------
    annotations : path
        Polygons and both kinds of RLE; crowd regions are dropped. An image entry may carry
        ``source``, an annotation ``class_name`` (otherwise its category is used).
    pictures : path, optional
        Folder with the pictures, or with tar files of them, or one tar file. Default: the folder of
        the annotation file.
    min_area_fraction : float
        Objects whose visible area is below this fraction of their picture become background.

    Raises
    ------
    DataError
        If something is missing or malformed; pictures are checked here, not in hour three.
    """
    path = need(Path(annotations), "an annotation file", how_to_get)
    folder = need(Path(pictures) if pictures is not None else path.parent, "pictures", how_to_get)
    content = read_coco_file(path)
    classes = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            by_image[annotation["image_id"]].append(annotation)
    store = PictureStore([folder])
    entries = []
    missing = []
    for image in content["images"]:
        found = by_image.get(image["id"])
        if not found:
            continue
        file_name = picture_name(image)
        if file_name not in store:
            missing.append(file_name)
            continue
        entries.append(Entry(file_name, partial(_read, store, file_name, image, found, classes)))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(missing) + len(entries)} annotated pictures of {path.name!r} "
            f"are not in {str(folder)!r}, first {missing[0]!r}. {how_to_get}"
        )
    if not entries:
        raise DataError(f"{str(path)!r} has no picture with an instance")
    return EvaluationDataset(
        name or path.name.split(".")[0], entries, min_area_fraction=min_area_fraction
    )


def _read(
    store: PictureStore,
    file_name: str,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    classes: dict[Any, str],
) -> Sample:
    pixels = _decode(store, file_name)
    height, width = pixels.shape[:2]
    if (int(image["height"]), int(image["width"])) != (height, width):
        raise DataError(
            f"picture {file_name!r} is {width}x{height}, its annotations say "
            f"{image['width']}x{image['height']}"
        )
    masks = []
    for annotation in annotations:
        try:
            segment = read_segment(annotation, height, width)
            masks.append(decode_segment(segment).astype(bool))
        except (KeyError, TypeError, ValueError) as error:
            label = annotation.get("id", "without id")
            raise DataError(f"annotation {label} of {file_name!r} is unusable: {error}") from error
    return make_sample(
        file_name,
        pixels,
        masks,
        class_names=[_class_name(annotation, classes) for annotation in annotations],
        source_ids=[annotation.get("id") for annotation in annotations],
        source=str(image.get("source") or ""),
    )


def _class_name(annotation: dict[str, Any], classes: dict[Any, str]) -> str:
    if annotation.get("class_name"):
        return str(annotation["class_name"])
    return classes.get(annotation.get("category_id"), "object")


def _decode(store: PictureStore, file_name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(store.read(file_name))) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"picture {file_name!r} cannot be decoded: {error}") from error
