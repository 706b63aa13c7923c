"""Label maps in picture files: the values are instance ids; other tools' files are of one class."""

from __future__ import annotations

from pathlib import Path

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.files import read_bytes
from ..export.png import decode
from .reading import PICTURE_SUFFIXES, from_labels


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read one file, or all of a folder; class names from the text chunk, else "object"."""
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise ExportError(f"no label maps in {str(path)!r}")
    pictures = []
    for file in files:
        labels, note = decode(read_bytes(file), str(file))
        pictures.append(from_labels(labels, note, file.name))
    return AnnotationSet(pictures)
