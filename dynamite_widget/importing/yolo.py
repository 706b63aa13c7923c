"""YOLO segmentation: a folder with ``labels/*.txt`` and the pictures whose size they need."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotationSet
from ..export.files import describe
from ..export.polygons import fill_centres
from ..export.yolo import read_names
from .reading import NUMBER_ERRORS, Draft, Problems, class_of, picture_size, pictures_in


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read a folder (or its ``data.yaml``); pictures are looked for in it, or in `images`.

    Lines with boxes only (four numbers) become filled boxes.

    Raises
    ------
    ExportError
        If there are no labels, or if no picture tells the size of a label file.
    """
    folder = path if path.is_dir() else path.parent
    table = path if path.is_file() else folder / "data.yaml"
    names = [class_of(n) for n in read_names(table)] if table.exists() else []
    labels = sorted(folder.rglob("*.txt"))
    labels = [p for p in labels if p.name != "classes.txt"]
    if not labels:
        raise ExportError(f"no label files (*.txt) in {str(folder)!r}")
    pictures = pictures_in(folder if images is None else images)
    problems = Problems(folder)
    found = []
    for file in labels:
        picture = pictures.get(file.stem)
        if picture is None:
            raise ExportError(
                f"no picture for {str(file)!r}: YOLO files do not know the size; give the folder "
                "of the pictures (images=..., --images)"
            )
        draft = Draft(picture.name, *picture_size(picture))
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            reason = describe(error, file, "read") if isinstance(error, OSError) else str(error)
            raise ExportError(reason) from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    _add(draft, line.split(), names)
                except NUMBER_ERRORS as error:
                    problems.add(f"line {number} of {file.name}: {error}")
        found.append(draft.finish(classes=tuple(names), image=picture)[0])
    problems.report()
    return AnnotationSet(found)


def _add(draft: Draft, words: list[str], names: list[str]) -> None:
    index, numbers = int(words[0]), np.asarray(words[1:], float)
    if not np.isfinite(numbers).all() or (np.abs(numbers) > 2).any():
        raise ValueError("coordinates must lie in 0..1")
    size = np.asarray((draft.width, draft.height))
    if numbers.size == 4:
        centre, half = numbers[:2] * size, numbers[2:] * size / 2
        low = np.floor(centre - half + 0.5).astype(int).clip(0)
        high = np.floor(centre + half + 0.5).astype(int).clip(0)
        mask = np.zeros((draft.height, draft.width), bool)
        mask[low[1] : high[1], low[0] : high[0]] = True
    elif numbers.size >= 6 and numbers.size % 2 == 0:
        # Cut off, as the training tool does; ours are a quarter of a pixel beyond.
        points = np.floor(numbers.reshape(-1, 2) * size + 1e-3).clip(0, size - 1)
        mask = fill_centres([points], draft.height, draft.width)
    else:
        raise ValueError(f"{numbers.size} numbers are neither a polygon nor a box")
    if not mask.any():
        raise ValueError("an empty mask")
    known = 0 <= index < len(names)
    draft.add(mask, names[index] if known else f"class {index}")
