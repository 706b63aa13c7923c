"""Binary masks: picture files, zero outside; one folder per picture, or all of one picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.files import read_bytes
from ..export.png import decode
from .reading import PICTURE_SUFFIXES, Draft, instances_of

_NAME = re.compile(r"(?P<id>\d{1,5})[_-](?P<class>.+)")


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a folder of masks, a folder of such folders, or one file.

    Id and class come from the text chunk, else from a name such as ``0001_cat.png``; masks of one
    folder belong to one picture, which has the folder's name.
    """
    folders: dict[Path, list[Path]] = {}
    if path.is_file():
        folders[path.parent] = [path]
    else:
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in PICTURE_SUFFIXES:
                folders.setdefault(file.parent, []).append(file)
    if not folders:
        raise ExportError(f"no masks in {str(path)!r}")
    return AnnotationSet([_picture(folder, files) for folder, files in folders.items()])


def _picture(folder: Path, files: list[Path]) -> Any:
    draft: Draft | None = None
    for file in files:
        values, note = decode(read_bytes(file), str(file))
        if draft is None:
            draft = Draft(note.get("name") or f"{folder.name}.png", *values.shape)
        if values.shape != (draft.height, draft.width):
            raise ExportError(
                f"{str(file)!r} is {values.shape[0]} x {values.shape[1]} pixels, the masks before "
                f"it are {draft.height} x {draft.width}"
            )
        described = instances_of(note)
        if described:
            number, name, colour = described[0]
            draft.add(values != 0, name, number, colour=colour)
        elif match := _NAME.fullmatch(file.stem):
            draft.add(values != 0, match["class"], int(match["id"]))
        else:
            draft.add(values != 0, "object")
    assert draft is not None
    return draft.finish()[0]
