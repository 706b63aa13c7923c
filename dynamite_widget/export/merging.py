"""Merging into formats with one file per picture: read what is there, put the new instances on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import rle
from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet
from .targets import each_picture

if TYPE_CHECKING:
    from .registry import Format


def with_existing(annotations: AnnotationSet, path: Path, chosen: Format) -> AnnotationSet:
    """Return the pictures of a set with the instances that their files hold besides."""
    from ..importing.registry import read_annotations

    suffix = path.suffix.lower() if path.suffix.lower() in (".json", chosen.suffix) else ""
    merged = []
    for picture, target in each_picture(annotations, path, suffix or chosen.suffix):
        if target.exists():
            (old,) = read_annotations(target, chosen.name)
            merged.append(merge_pictures(old, picture))
        else:
            merged.append(picture)
    return AnnotationSet(merged)


def merge_pictures(old: AnnotatedPicture, new: AnnotatedPicture) -> AnnotatedPicture:
    """Return `new` with those instances of `old` that it does not have, below its own.

    Raises
    ------
    ExportError
        If the two differ in size.
    """
    if (old.height, old.width) != (new.height, new.width):
        raise ExportError(
            f"{new.name!r} is {new.height} x {new.width} pixels, what is there is "
            f"{old.height} x {old.width}"
        )
    known = set(new.ids)
    kept = [i for i in old.instances if i.id not in known]
    below, above = old.label_map, new.label_map
    below = np.where(np.isin(below, [i.id for i in kept]), below, 0)
    lengths, ids = rle.encode(np.where(above > 0, above, below))
    instances = sorted((*kept, *new.instances), key=lambda i: i.id)
    return replace(
        new,
        instances=tuple(instances),
        lengths=lengths,
        labels=ids.astype(np.uint16),
        classes=(*old.classes, *new.classes),
    )
