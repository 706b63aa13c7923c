"""Which formats there are, how one is chosen, and `export`, which writes any of them."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet
from .files import OutputFile, refuse_existing, write_files
from .options import Options

Writer = Callable[[AnnotationSet, Path, Options], Iterator[OutputFile]]


@dataclass(frozen=True)
class Format:
    """A file format.

    Parameters
    ----------
    name : str
        As given to ``format=``.
    module : str
        In `dynamite_widget.export`, with a function ``write``.
    suffix : str
        Of its files; "" when it is always a folder.
    default : bool
        Whether `suffix` alone selects it.
    per_picture : bool
        One file per picture: a path with the suffix for one picture, a folder for several.
    lossless, holes, classes : str
        For the table of formats.
    reader : str
        Module in `dynamite_widget.importing` with a function ``read``; "" if it is not read.
    """

    name: str
    module: str
    title: str
    suffix: str
    default: bool = False
    per_picture: bool = False
    lossless: str = "yes"
    holes: str = "yes"
    classes: str = "yes"
    reader: str = ""


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("coco", "coco", "COCO instances (RLE)", ".json", True, reader="coco"),
        Format(
            "coco-panoptic",
            "coco_panoptic",
            "COCO panoptic",
            ".json",
            reader="coco_panoptic",
            lossless="visible pixels",
        ),
        Format(
            "yolo-seg",
            "yolo",
            "YOLO segmentation",
            "",
            reader="yolo",
            lossless="one part: yes; several: joined by 1-pixel lines; no ids",
        ),
        Format(
            "voc",
            "voc",
            "Pascal VOC, class and object PNG",
            "",
            reader="voc",
            lossless="visible pixels",
        ),
        Format(
            "label-png",
            "label_png",
            "indexed PNG, 8 or 16 bit",
            ".png",
            True,
            True,
            lossless="visible pixels",
            classes="in a text chunk",
            reader="label_png",
        ),
        Format(
            "mask-png",
            "mask_png",
            "binary PNG per instance",
            "",
            reader="mask_png",
            classes="in file names and a text chunk",
        ),
        Format(
            "cutouts",
            "cutouts",
            "RGBA crop per instance",
            "",
            lossless="crops",
            classes="in file names",
        ),
        Format(
            "npz",
            "arrays",
            "numpy arrays",
            ".npz",
            True,
            True,
            lossless="visible pixels",
            reader="arrays",
        ),
        Format("geojson", "geojson", "GeoJSON polygons", ".geojson", True, True, reader="geojson"),
        Format("labelme", "labelme", "LabelMe JSON", ".json", per_picture=True, reader="labelme"),
        Format(
            "label-studio",
            "label_studio",
            "Label Studio tasks (brush)",
            ".json",
            reader="label_studio",
            lossless="yes; no ids in foreign files",
        ),
        Format("cvat", "cvat", "CVAT for images 1.1", ".xml", True, reader="cvat"),
    )
}
_ALIASES = {
    "json": "coco",
    "panoptic": "coco-panoptic",
    "yolo": "yolo-seg",
    "png": "label-png",
    "labels": "label-png",
    "masks": "mask-png",
    "xml": "cvat",
    "numpy": "npz",
}


def find_format(path: Path, name: str | None) -> Format:
    """Return the format called `name`, or the one that a path's ending selects.

    Raises
    ------
    ExportError
        Listing the formats.
    """
    if name is not None:
        key = str(name).lower().replace("_", "-")
        key = _ALIASES.get(key, key)
        if key in FORMATS:
            return FORMATS[key]
        near = difflib.get_close_matches(key, FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ExportError(f"unknown format {name!r:.60}; formats: {', '.join(FORMATS)}{hint}")
    for entry in FORMATS.values():
        if entry.default and path.suffix.lower() == entry.suffix:
            return entry
    raise ExportError(
        f"the ending of {str(path)!r} does not name a format; give format=... (--format): "
        f"{', '.join(FORMATS)}"
    )


def export(
    annotations: AnnotationSet | AnnotatedPicture,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    overwrite: bool = False,
    merge: bool = False,
    **options: Any,
) -> list[Path]:
    """Write annotations to a file or folder.

    All files are first written completely under temporary names; nothing old is touched if
    anything fails.

    Parameters
    ----------
    annotations : AnnotationSet or AnnotatedPicture
    path : path
        A file, or a folder for formats of many files.
    format : str, optional
        A name in `FORMATS`; by default the ending of `path` decides (``.json`` is COCO).
    overwrite : bool
        Replace existing files.
    merge : bool
        Add to what is there. COCO, label PNG, NPZ, LabelMe: instances of the same picture and id
        are replaced, others stay. Other formats: pictures of the same name are replaced.
    **options
        Fields of `Options`: ``polygons``, ``tolerance``, ``transform``, ``copy_images``.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ExportError
        If files exist and neither `overwrite` nor `merge` is given, if something cannot be
        written, or if the format cannot say what is to be said.
    TypeError
        For an unknown option.
    """
    if isinstance(annotations, AnnotatedPicture):
        annotations = AnnotationSet([annotations])
    valid = [f.name for f in fields(Options)]
    for name in options:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise TypeError(f"unknown option {name!r}; {hint}Valid: {', '.join(valid)}")
    target = Path(path)
    chosen = find_format(target, format)
    settings = Options(**options, overwrite=overwrite, merge=merge)
    if not (overwrite or merge):
        refuse_existing(target)  # before anything is computed
    if merge and chosen.per_picture and chosen.reader:
        from .merging import with_existing

        annotations = with_existing(annotations, target, chosen)
    write: Writer = importlib.import_module(f"{__package__}.{chosen.module}").write
    return write_files(write(annotations, target, settings), overwrite=overwrite)
