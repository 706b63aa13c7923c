"""COCO instances: one JSON file. Compressed RLE by default, polygons on request; merging.

Everything beyond the official fields stands under keys named ``dynamite``, which other readers
ignore.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ExportError
from ..session_state import Click
from . import coco_rle
from .annotation_set import AnnotatedInstance, AnnotatedPicture, AnnotationSet, Cutout
from .files import OutputFile, read_bytes
from .options import Options, simplified_parts

_INSTANCES_PER_IMAGE = 100_000


def write(annotations: AnnotationSet, path: Path, options: Options) -> Iterator[OutputFile]:
    """Yield the one file."""
    existing = None
    if options.merge and path.exists():
        existing = load_json(path)
    content = to_coco(annotations, options.polygons, options.tolerance, existing)
    yield OutputFile(path, dump_json(content), shared=options.merge)


def to_coco(
    annotations: AnnotationSet,
    polygons: bool = False,
    tolerance: float = 0.0,
    existing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a set as the content of a COCO instances file.

    Ids depend on the set alone: exporting twice gives the same file. A picture that was imported
    from COCO keeps its ids. Instances without pixels are listed under the picture's ``dynamite``.

    Parameters
    ----------
    annotations : AnnotationSet
    polygons : bool
        Polygons where they say the same as the mask: no holes, no crowd.
    tolerance : float
        Of polygons, in pixels; the IoU of a simplified polygon is at least 0.9.
    existing : mapping, optional
        Content to merge into: annotations of the same picture (by file name) and instance are
        replaced, everything else stays, ids included.
    """
    base = _checked(existing) if existing is not None else {}
    categories = _Ids(base.get("categories", []), "name")
    images = _Ids(base.get("images", []), "file_name")
    for picture in annotations:
        wanted = _coco_source(picture)
        names = wanted.get("categories")
        for name in picture.classes:
            preferred = names.get(name) if isinstance(names, Mapping) else None
            categories.reserve(name, preferred, low=1)
        images.reserve(picture.name, wanted.get("image_id"), low=0)
    for name in annotations.classes:
        entry = {"name": name, "supercategory": ""}
        categories.add(name, entry, low=1)
    records = {record["id"]: record for record in base.get("annotations", [])}
    by_instance = {
        (record["image_id"], number): record["id"]
        for record in records.values()
        if (number := _instance_of(record)) is not None
    }
    for picture in annotations:
        image_id = images.add(picture.name, _image_record(picture), low=1)
        preferred_ids = _coco_source(picture).get("annotations")
        shown = set()
        for cutout in picture.cutouts():
            instance = cutout.instance
            shown.add(instance.id)
            record_id = by_instance.get((image_id, instance.id))
            if record_id is None and isinstance(preferred_ids, Mapping):
                preferred = preferred_ids.get(str(instance.id))
                same = records.get(preferred)
                free = same is None or (same["image_id"] == image_id and _instance_of(same) is None)
                if type(preferred) is int and preferred > 0 and free:
                    record_id = preferred
            if record_id is None:
                record_id = image_id * _INSTANCES_PER_IMAGE + instance.id
                if record_id in records:
                    record_id = max(records) + 1
            category = categories.ids[instance.class_name]
            record = _annotation(picture, cutout, polygons, tolerance)
            records[record_id] = {
                **{k: v for k, v in records.get(record_id, {}).items() if k not in record},
                "id": record_id,
                "image_id": image_id,
                "category_id": category,
                **record,
            }
        for instance_id in set(picture.ids) - shown:
            # An instance that has lost all its pixels must not live on in the old file.
            records.pop(by_instance.get((image_id, instance_id), -1), None)
    return {
        "info": base.get(
            "info",
            {"description": "Annotated with dynamite-widget", "version": "1.0"},
        ),
        "licenses": base.get("licenses", []),
        **{k: v for k, v in base.items() if k not in _SECTIONS},
        "dynamite": {
            "version": __version__,
            "checkpoints": _checkpoints(base, annotations),
        },
        "categories": sorted(categories.records.values(), key=lambda c: c["id"]),
        "images": list(images.records.values()),
        "annotations": list(records.values()),
    }


_SECTIONS = {"info", "licenses", "dynamite", "categories", "images", "annotations"}


def clicks_record(clicks: Iterable[Click]) -> list[dict[str, Any]]:
    """Return clicks as plain data."""
    return [
        {"x": c.x, "y": c.y, "t": c.t, **({} if c.seconds is None else {"seconds": c.seconds})}
        for c in clicks
    ]


def effort_record(instance: AnnotatedInstance) -> dict[str, Any]:
    """Return what a person spent on an instance, as plain data."""
    return {
        "instance": instance.id,
        "colour": instance.colour,
        "clicks": clicks_record(instance.clicks),
        "seconds": instance.seconds,
        "edits": instance.edits,
    }


def dump_json(content: Any) -> bytes:
    """Return JSON in ASCII: whatever a name holds, any reader can decode the file."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def load_json(path: Path) -> Any:
    """Read a JSON file (also ``.gz``); ExportError naming it if it is damaged."""
    import gzip
    import zlib

    raw = read_bytes(path)
    try:
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
        return json.loads(raw.decode("utf-8-sig"))
    except (ValueError, EOFError, OSError, RecursionError, zlib.error) as error:
        raise ExportError(f"{str(path)!r} is no JSON file: {error}") from error


class _Ids:
    """Ids of images or categories: existing ones stay, imported ones are preferred."""

    def __init__(self, existing: list[dict[str, Any]], key: str) -> None:
        self.key = key
        self.records = {record["id"]: record for record in existing}
        self.ids: dict[str, int] = {}
        for record in existing:
            self.ids.setdefault(str(record.get(key, "")), record["id"])
        self._taken = set(self.records)

    def reserve(self, name: str, preferred: Any, low: int) -> None:
        """Keep a preferred id for a name that has none yet, if nobody else has it."""
        if name in self.ids or type(preferred) is not int:
            return
        if preferred >= low and preferred not in self._taken:
            self._taken.add(preferred)
            self.ids[name] = preferred

    def add(self, name: str, entry: dict[str, Any], low: int) -> int:
        """Add or update a record and return its id."""
        if name not in self.ids:
            self.ids[name] = max(self._taken, default=low - 1) + 1
            self._taken.add(self.ids[name])
        number = self.ids[name]
        old = self.records.get(number)
        if old is None:
            self.records[number] = {"id": number, **entry}
        elif self.key == "file_name":
            self.records[number] = {**old, **entry}
        return number


def _image_record(picture: AnnotatedPicture) -> dict[str, Any]:
    return {
        "file_name": picture.name,
        "width": picture.width,
        "height": picture.height,
        "dynamite": {
            "hash": picture.image_hash,
            "checkpoint": picture.checkpoint_hash,
            "seconds": picture.seconds,
            "background_clicks": clicks_record(picture.background_clicks),
            "empty": [
                {"class": i.class_name, **effort_record(i)}
                for i in picture.instances_without_pixels
            ],
        },
    }


def _annotation(
    picture: AnnotatedPicture, cutout: Cutout, polygons: bool, tolerance: float
) -> dict[str, Any]:
    instance = cutout.instance
    segmentation: Any = None
    if polygons and not instance.crowd:
        parts = simplified_parts(cutout, tolerance)
        if not any(part.holes for part in parts):
            segmentation = [part.outer.ravel().tolist() for part in parts]
    if segmentation is None:
        segmentation = coco_rle.encode(
            cutout.mask, picture.height, picture.width, cutout.x0, cutout.y0
        )
    return {
        "segmentation": segmentation,
        "area": cutout.area,
        "bbox": [cutout.x0, cutout.y0, cutout.x1 - cutout.x0, cutout.y1 - cutout.y0],
        "iscrowd": int(instance.crowd),
        "score": instance.score,
        "dynamite": effort_record(instance),
    }


def _coco_source(picture: AnnotatedPicture) -> Mapping[str, Any]:
    source = picture.source.get("coco")
    return source if isinstance(source, Mapping) else {}


def _instance_of(record: Mapping[str, Any]) -> int | None:
    extra = record.get("dynamite")
    number = extra.get("instance") if isinstance(extra, Mapping) else None
    return number if type(number) is int else None


def _checkpoints(base: Mapping[str, Any], annotations: AnnotationSet) -> list[str]:
    known = base.get("dynamite")
    old = known.get("checkpoints", []) if isinstance(known, Mapping) else []
    texts = [text for text in old if isinstance(text, str)] if isinstance(old, list) else []
    return sorted({*texts, *annotations.checkpoints})


def _checked(existing: Any) -> Mapping[str, Any]:
    """Refuse to merge into what is no COCO file, or one with ids that nobody can keep apart."""
    if not isinstance(existing, Mapping):
        raise ExportError("the file to merge into is no COCO file (no JSON object)")
    for section in ("images", "annotations", "categories"):
        records = existing.get(section)
        if not isinstance(records, list) or any(
            not isinstance(record, dict) or type(record.get("id")) is not int for record in records
        ):
            raise ExportError(
                f"the file to merge into is no COCO file: {section!r} must be a list of objects "
                "with whole-number ids"
            )
        if len({record["id"] for record in records}) != len(records):
            raise ExportError(f"the file to merge into has an id twice in {section!r}")
    if any("image_id" not in record for record in existing["annotations"]):
        raise ExportError("the file to merge into has an annotation without 'image_id'")
    return existing
