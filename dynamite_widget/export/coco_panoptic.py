"""COCO panoptic: a JSON file and beside it a folder of PNGs, segment id = R + 256 G + 65536 B."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..colours import instance_colour, to_rgb
from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet
from .coco import dump_json, effort_record, load_json
from .files import OutputFile, unique_stems
from .options import Options
from .png import encode


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield PNGs and JSON; segment ids are instance ids. Merging replaces pictures by name."""
    folder = path.with_suffix("")
    images, records = list[dict[str, Any]](), list[dict[str, Any]]()
    categories: dict[str, Any] = {}
    checkpoints = set(annotations.checkpoints)
    if options.merge and path.exists():
        images, records, categories, old = _existing(path)
        checkpoints |= old
    for name in annotations.classes:
        if name not in categories:
            number = max((c["id"] for c in categories.values()), default=0) + 1
            colour = list(to_rgb(instance_colour(number)))
            categories[name] = {
                "id": number,
                "name": name,
                "supercategory": "",
                "isthing": 1,
                "color": colour,
            }
    by_name = {image.get("file_name"): image for image in images}
    files = {r.get("image_id"): r.get("file_name") for r in records}
    taken = {name for name in files.values() if isinstance(name, str)}
    stems = unique_stems(picture.name for picture in annotations)
    for picture, stem in zip(annotations, stems, strict=True):
        image = by_name.get(picture.name)
        if image is None:
            number = max((i["id"] for i in images), default=0) + 1
            file_name, again = f"{stem}.png", 2
            while file_name in taken:
                file_name, again = f"{stem}_{again}.png", again + 1
            image = {"id": number}
            images.append(image)
        else:
            file_name = str(files.get(image["id"]) or f"{stem}.png")
        taken.add(file_name)
        image.update(file_name=picture.name, width=picture.width, height=picture.height)
        records = [r for r in records if r.get("image_id") != image["id"]]
        records.append(
            {
                "image_id": image["id"],
                "file_name": file_name,
                "segments_info": _segments(picture, categories),
            }
        )
        png = encode(to_rgb_ids(picture.label_map))
        yield OutputFile(folder / Path(file_name).name, png, shared=options.merge)
    content = {
        "info": {"description": "Annotated with dynamite-widget", "version": "1.0"},
        "licenses": [],
        "dynamite": {"version": __version__, "checkpoints": sorted(checkpoints)},
        "images": images,
        "annotations": records,
        "categories": list(categories.values()),
    }
    yield OutputFile(path, dump_json(content), shared=options.merge)


def to_rgb_ids(label_map: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return the (H, W, 3) colours that stand for ids in panoptic PNGs."""
    return np.stack([(label_map >> shift) & 255 for shift in (0, 8, 16)], axis=2).astype(np.uint8)


def _segments(
    picture: AnnotatedPicture, categories: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {
            "id": cutout.instance.id,
            "category_id": categories[cutout.instance.class_name]["id"],
            "area": cutout.area,
            "bbox": [cutout.x0, cutout.y0, cutout.x1 - cutout.x0, cutout.y1 - cutout.y0],
            "iscrowd": int(cutout.instance.crowd),
            "dynamite": effort_record(cutout.instance),
        }
        # Only what is visible: a panoptic picture gives each pixel to one segment.
        for cutout in picture.cutouts(visible_only=True)
    ]


def _existing(
    path: Path,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], set[str]]:
    content = load_json(path)
    try:
        images, records = list(content["images"]), list(content["annotations"])
        categories = {str(c["name"]): c for c in content["categories"]}
        checkpoints = content.get("dynamite", {}).get("checkpoints", [])
        ids = [int(entry["id"]) for entry in (*images, *categories.values())]
        if min(ids, default=0) < 0 or any("segments_info" not in r for r in records):
            raise ValueError("no segments_info")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(f"{str(path)!r} is no COCO panoptic file: {error!r}") from error
    return images, records, categories, {str(c) for c in checkpoints}
