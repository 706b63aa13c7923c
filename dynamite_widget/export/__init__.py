"""From masks to files: annotation sets and the formats they are written to.

>>> from dynamite_widget.export import AnnotationSet, export
>>> annotations = AnnotationSet.from_sessions(["sessions"])
>>> export(annotations, "annotations.json")

Formats are listed in `FORMATS`; the way back is `dynamite_widget.importing`.
"""

from __future__ import annotations

from .annotation_set import AnnotatedInstance, AnnotatedPicture, AnnotationSet
from .coco import to_coco
from .registry import FORMATS, export

__all__ = [
    "FORMATS",
    "AnnotatedInstance",
    "AnnotatedPicture",
    "AnnotationSet",
    "export",
    "to_coco",
]
