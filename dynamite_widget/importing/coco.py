"""COCO instances: compressed and raw RLE, polygons, crowds; files of any tool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..export import coco_rle
from ..export.annotation_set import AnnotatedPicture, AnnotationSet
from ..export.coco import load_json
from ..rle import RLE
from ..session_state import Click
from .reading import NUMBER_ERRORS, Draft, Problems, class_of, colour_of

_ALL_CLASSES_UP_TO = 100


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a file (``.json``, ``.json.gz``); pictures without annotations are kept.

    Ids of pictures, categories and annotations are remembered for exporting to COCO again. Entries
    that cannot be used are left out and reported in one warning.

    Raises
    ------
    ExportError
        If it is no COCO file.
    """
    return from_content(load_json(path), path)


def from_content(content: Any, path: Path) -> AnnotationSet:
    """Read what a file holds, or a part of it; `path` is for messages. See `read`."""
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise ExportError(f"{str(path)!r} is no COCO file: it needs 'images' and 'annotations'")
    problems = Problems(path)
    categories = _categories(content.get("categories"))
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for record in content["annotations"]:
        if isinstance(record, Mapping) and isinstance(record.get("image_id"), (int, str)):
            by_image.setdefault(record["image_id"], []).append(record)
        else:
            problems.add(f"an annotation without image_id ({record!r:.60})")
    pictures, done = [], set[Any]()
    for entry in content["images"]:
        try:
            key = entry["id"]
            if key in done:
                raise ValueError("the id occurs twice")
            done.add(key)
            records = by_image.get(key, [])
            pictures.append(_picture(entry, records, categories, problems))
        except NUMBER_ERRORS as error:
            problems.add(f"image {entry!r:.60}: {error!r:.120}")
    for key in set(by_image) - done:
        problems.add(f"{len(by_image[key])} annotations of unknown image {key!r}")
    problems.report()
    return AnnotationSet(pictures)


def read_segmentation(shape: Any, height: int, width: int) -> np.ndarray:
    """Return the (H, W) bool mask of a ``segmentation`` field.

    Raises
    ------
    ValueError
        If it is none, or of another size.
    """
    if isinstance(shape, list):
        polygons = []
        for polygon in shape:
            points = np.asarray(polygon, float).ravel()
            if not np.isfinite(points).all() or (np.abs(points) > 1e7).any():
                raise ValueError("a polygon with coordinates that are no pixels")
            if points.size >= 6 and points.size % 2 == 0:
                polygons.append(points.reshape(-1, 2))
        if not polygons:
            raise ValueError("no polygon with three points")
        return np.logical_or.reduce(coco_rle.fill(polygons, height, width))
    if not isinstance(shape, Mapping) or "counts" not in shape:
        raise ValueError("segmentation is neither a list of polygons nor an RLE")
    if [int(v) for v in shape.get("size", (height, width))] != [height, width]:
        raise ValueError(f"RLE of size {shape['size']} in a picture of {[height, width]}")
    return coco_rle.decode(shape["counts"], height, width)


def _categories(entries: Any) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and isinstance(entry.get("id"), (int, str)):
            found[entry["id"]] = class_of(entry.get("name"))
    return found


def _picture(
    entry: Mapping[str, Any],
    records: list[Mapping[str, Any]],
    categories: Mapping[Any, str],
    problems: Problems,
) -> AnnotatedPicture:
    # LVIS gives only a URL whose last two parts are folder and file.
    name = entry.get("file_name") or "/".join(str(entry.get("coco_url", "")).split("/")[-2:])
    draft = Draft(name or f"{entry['id']}", entry["height"], entry["width"])
    used = list[Any]()
    for record in records:
        try:
            mask = read_segmentation(record["segmentation"], draft.height, draft.width)
            if not mask.any():
                raise ValueError("an empty mask")
            extra = record.get("dynamite")
            extra = extra if isinstance(extra, Mapping) else {}
            category = record.get("category_id")
            draft.add(
                RLE.from_mask(mask),
                categories.get(category, f"category {category}"),
                extra.get("instance"),
                crowd=bool(record.get("iscrowd")),
                score=_score(record.get("score")),
                **_effort(extra),
            )
            used.append(record.get("id"))
        except NUMBER_ERRORS as error:
            problems.add(f"annotation {record.get('id')!r:.20} of {draft.name!r}: {error}")
    own = entry.get("dynamite")
    own = own if isinstance(own, Mapping) else {}
    without_pixels = own.get("empty")
    for empty in without_pixels if isinstance(without_pixels, list) else []:
        if isinstance(empty, Mapping):
            draft.add(None, empty.get("class"), empty.get("instance"), **_effort(empty))
            used.append(None)
    classes = tuple(categories[c] for c in sorted(categories, key=_by_number))
    if len(classes) > _ALL_CLASSES_UP_TO:
        present = {details["class_name"] for details in draft.details}
        classes = tuple(c for c in classes if c in present)
    picture, ids = draft.finish(
        classes=classes,
        image_hash=_text(own.get("hash")),
        checkpoint_hash=_text(own.get("checkpoint")),
        seconds=_seconds(own.get("seconds")),
        background_clicks=_clicks(own.get("background_clicks"), 0),
    )
    source = {
        "image_id": entry["id"],
        "categories": {n: c for c, n in reversed(list(categories.items())) if n in picture.classes},
        "annotations": {
            str(i): number for i, number in zip(ids, used, strict=True) if type(number) is int
        },
    }
    object.__setattr__(picture, "source", {"coco": source})
    return picture


def _by_number(key: Any) -> tuple[bool, Any]:
    return isinstance(key, str), key


def _effort(extra: Mapping[str, Any]) -> dict[str, Any]:
    edits, number = extra.get("edits"), extra.get("instance")
    return {
        "colour": colour_of(extra),
        "clicks": _clicks(extra.get("clicks"), number if type(number) is int else 0),
        "seconds": _seconds(extra.get("seconds")),
        "edits": edits if type(edits) is int and edits >= 0 else 0,
    }


def _clicks(entries: Any, instance: int) -> tuple[Click, ...]:
    found = []
    for c in entries if isinstance(entries, list) else []:
        if isinstance(c, Mapping) and all(type(c.get(k)) is int for k in ("x", "y", "t")):
            found.append(Click(c["x"], c["y"], instance, c["t"], _seconds(c.get("seconds"))))
    return tuple(found)


def _score(value: Any) -> float:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if valid else 1.0


def _seconds(value: Any) -> float | None:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12
    return float(value) if valid else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
