"""Reading any format: by name, or by what a path looks like."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.coco import load_json
from ..export.files import file_stem, read_bytes
from ..export.registry import FORMATS, Format, find_format
from .reading import pictures_in

Reader = Callable[[Path, Path | None], AnnotationSet]


def read_annotations(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    images: str | os.PathLike[str] | None = None,
) -> AnnotationSet:
    """Read annotations of any tool.

    Parameters
    ----------
    path : path
        A file or folder.
    format : str, optional
        A name in `dynamite_widget.export.FORMATS`; by default recognised from the content.
    images : path, optional
        Folder of the pictures: YOLO needs their sizes, and the pictures of the set know their
        files then.

    Returns
    -------
    AnnotationSet
        Ids of the file are kept where it has some. Where masks overlap, the lower id is on top, and
        the whole masks are kept.

    Raises
    ------
    ExportError
        If the path cannot be read as that format, or the format cannot be told.
    """
    source = Path(path)
    if not source.exists():
        raise ExportError(f"{str(source)!r} does not exist")
    chosen = find_format(source, format) if format is not None else recognise(source)
    if not chosen.reader:
        raise ExportError(f"{chosen.name} is written only; readable: {', '.join(readable())}")
    folder = None if images is None else Path(images)
    read: Reader = importlib.import_module(f"{__package__}.{chosen.reader}").read
    annotations = read(source, folder)
    if folder is not None:
        return _with_pictures(annotations, folder)
    return annotations


def readable() -> Iterable[str]:
    """Return the names of the formats that can be read."""
    return [name for name, entry in FORMATS.items() if entry.reader]


def recognise(path: Path) -> Format:
    """Tell the format of a file or folder by its ending and content; ExportError if unknown."""
    name = _recognise_folder(path) if path.is_dir() else _recognise_file(path)
    if name is None:
        raise ExportError(
            f"the format of {str(path)!r} cannot be told; give format=... (--format): "
            f"{', '.join(readable())}"
        )
    return FORMATS[name]


def _recognise_folder(path: Path) -> str | None:
    if (path / "SegmentationObject").is_dir():
        return "voc"
    if (path / "data.yaml").is_file() or (path / "labels").is_dir():
        return "yolo-seg"
    for suffix, name in ((".geojson", "geojson"), (".npz", "npz"), (".json", "labelme")):
        if any(path.glob(f"*{suffix}")):
            return name
    if any(path.glob("*/*.png")):
        return "mask-png"
    first = next(iter(sorted(path.glob("*.png"))), None)
    if first is None:
        return "yolo-seg" if any(path.glob("*.txt")) else None
    from ..export.png import decode

    note = decode(read_bytes(first), str(first))[1]
    if note:
        return "label-png" if "classes" in note else "mask-png"
    return None


def _recognise_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yolo-seg"
    if suffix not in (".json", ".gz"):
        known = {entry.suffix: entry.name for entry in FORMATS.values() if entry.default}
        return known.get(suffix)
    content: Any = load_json(path)
    if isinstance(content, list):
        return "label-studio"
    if not isinstance(content, dict):
        return None
    if content.get("type") == "FeatureCollection":
        return "geojson"
    if "shapes" in content:
        return "labelme"
    records = content.get("annotations")
    if isinstance(records, list):
        panoptic = records and isinstance(records[0], dict) and "segments_info" in records[0]
        return "coco-panoptic" if panoptic else "coco"
    return None


def _with_pictures(annotations: AnnotationSet, folder: Path) -> AnnotationSet:
    """Let the pictures know their files, as far as they are found."""
    files = pictures_in(folder)
    return AnnotationSet(
        replace(p, image=files.get(file_stem(p.name), p.image)) for p in annotations
    )
