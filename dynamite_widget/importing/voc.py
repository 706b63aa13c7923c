"""Pascal VOC segmentation: object PNGs with the classes of the class PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.files import read_bytes
from ..export.png import decode
from ..export.voc import CLASSES, VOID
from .reading import Draft, class_of, instances_of

# fmt: off
VOC_CLASSES = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep",
    "sofa", "train", "tvmonitor",
]
# fmt: on


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a folder; void (255 in 8 bits) becomes background. Without a list of classes, VOC's."""
    objects = sorted((path / "SegmentationObject").glob("*.png"))
    if not objects:
        raise ExportError(f"no object PNGs (SegmentationObject/*.png) in {str(path)!r}")
    names = VOC_CLASSES
    if (path / CLASSES).exists():
        lines = read_bytes(path / CLASSES).decode("utf-8", "replace").splitlines()
        names = [class_of(line) for line in lines[1:]]
    pictures = []
    for file in objects:
        labels, note = decode(read_bytes(file), str(file))
        kinds, _ = decode(read_bytes(path / "SegmentationClass" / file.name), file.name)
        if kinds.shape != labels.shape:
            raise ExportError(f"class and object PNG of {file.stem!r} differ in size")
        shown = labels if labels.dtype.itemsize > 1 else np.where(labels == VOID, 0, labels)
        described = {number: colour for number, _, colour in instances_of(note)}
        draft = Draft(note.get("name") or f"{file.stem}.jpg", *labels.shape)
        for number in np.unique(shown).tolist():
            if number:
                mask = shown == number
                values, counts = np.unique(kinds[mask], return_counts=True)
                kind = int(values[counts.argmax()])
                name = names[kind - 1] if 1 <= kind <= len(names) else f"class {kind}"
                draft.add(mask, name, int(number), colour=described.get(number, ""))
        for number, name, colour in instances_of(note):
            if not (shown == number).any():
                draft.add(None, name, number, colour=colour)
        pictures.append(draft.finish(classes=tuple(names))[0])
    return AnnotationSet(pictures)
