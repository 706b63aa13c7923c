"""Where the files of a picture go, and the pictures themselves when they are copied along."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import ExportError
from .annotation_set import AnnotatedPicture, AnnotationSet
from .files import OutputFile, file_stem, read_bytes, unique_stems


def each_picture(
    annotations: AnnotationSet, path: Path, suffix: str
) -> Iterator[tuple[AnnotatedPicture, Path]]:
    """Yield pictures with the file of each: `path` itself for one picture, else files in it."""
    if path.suffix.lower() == suffix and not path.is_dir():
        if len(annotations) != 1:
            raise ExportError(
                f"{str(path)!r} holds one picture, the set has {len(annotations)}; give a folder"
            )
        yield annotations[0], path
        return
    stems = unique_stems(picture.name for picture in annotations)
    for picture, stem in zip(annotations, stems, strict=True):
        yield picture, path / f"{stem}{suffix}"


def with_stems(annotations: AnnotationSet) -> Iterator[tuple[AnnotatedPicture, str]]:
    """Yield pictures with the stem that their files share, which must be that of the picture.

    Raises
    ------
    ExportError
        If two pictures would get the same files (``a.jpg`` and ``a.png``): training tools match
        pictures and annotations by this name alone.
    """
    seen: dict[str, str] = {}
    for picture in annotations:
        stem = file_stem(picture.name)
        other = seen.setdefault(stem.casefold(), picture.name)
        if other != picture.name:
            raise ExportError(
                f"{other!r} and {picture.name!r} would share the file name {stem!r}; this format "
                "matches pictures by it, so rename one of them"
            )
        yield picture, stem


def picture_copy(picture: AnnotatedPicture, folder: Path, stem: str) -> OutputFile:
    """Return the picture's own file for a folder of the export; ExportError if it is not known."""
    source = picture.image
    if not isinstance(source, (str, os.PathLike)):
        raise ExportError(
            f"the file of {picture.name!r} is not known; give the folder of the pictures "
            "(images=..., --images)"
        )
    path = Path(source)
    return OutputFile(folder / f"{stem}{path.suffix}", read_bytes(path), shared=True)
