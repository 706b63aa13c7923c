"""NPZ files of this package: label map and tables of one picture."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExportError
from ..export.annotation_set import AnnotatedInstance, AnnotatedPicture, AnnotationSet
from ..export.files import read_bytes
from .reading import class_of


def read(path: Path, images: Path | None) -> AnnotationSet:
    """Read one file, or all of a folder; pickled content is refused."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise ExportError(f"no .npz files in {str(path)!r}")
    return AnnotationSet([_picture(file) for file in files])


def _picture(file: Path) -> AnnotatedPicture:
    try:
        with np.load(io.BytesIO(read_bytes(file)), allow_pickle=False) as content:
            arrays: dict[str, Any] = {key: content[key] for key in content.files}
        labels = arrays["label_map"]
        ids = arrays["ids"].tolist() if "ids" in arrays else np.unique(labels[labels > 0]).tolist()
        names = arrays["class_names"].tolist() if "class_names" in arrays else ["object"] * len(ids)
        scores = arrays["scores"].tolist() if "scores" in arrays else [1.0] * len(ids)
        picture = AnnotatedPicture.from_label_map(
            labels,
            dict(zip(ids, map(class_of, names), strict=True)),
            str(arrays.get("name", file.with_suffix(".png").name)),
            classes=tuple(class_of(c) for c in arrays["classes"]) if "classes" in arrays else (),
        )
        instances = tuple(
            AnnotatedInstance(int(i), class_of(name), round(float(score), 6))
            for i, name, score in sorted(zip(ids, names, scores, strict=True))
        )
        object.__setattr__(picture, "instances", instances)
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"{str(file)!r} is no NPZ file of annotations: {error}") from error
    return picture
