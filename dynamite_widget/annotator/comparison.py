"""Agreement of two annotators: instances matched by IoU, and the list of what they differ in."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ExportError
from ..export import coco_rle
from ..export.annotation_set import AnnotatedPicture, AnnotationSet
from .store import AnnotationStore

ConflictKind = Literal["only first", "only second", "class", "outline", "size"]
OUTLINE_IOU = 0.75
"""Matched instances that overlap less are listed, too."""


@dataclass(frozen=True)
class Match:
    """Two instances that are the same object."""

    picture: str
    first: int
    second: int
    first_class: str
    second_class: str
    iou: float


@dataclass(frozen=True)
class Conflict:
    """Something that the two annotators differ in.

    Attributes
    ----------
    picture : str
    kind : str
        ``"only first"`` or ``"only second"``: nobody else has it; ``"class"``: the same object with
        another class; ``"outline"``: the same object, but the IoU is below `OUTLINE_IOU`;
        ``"size"``: the pictures differ in size and cannot be compared.
    first, second : int or None
        Instance ids.
    detail : str
    """

    picture: str
    kind: ConflictKind
    first: int | None
    second: int | None
    detail: str


@dataclass(frozen=True)
class Agreement:
    """What two annotators agree on.

    Attributes
    ----------
    pictures : int
        Pictures that both have.
    only_first, only_second : tuple of str
        Pictures that one has.
    matches : tuple of Match
    conflicts : tuple of Conflict
        By picture; the gravest first.
    threshold : float
        IoU from which two masks are the same object.
    """

    pictures: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    matches: tuple[Match, ...]
    conflicts: tuple[Conflict, ...]
    threshold: float

    @property
    def summary(self) -> dict[str, float]:
        """``F1`` of the instances (2 · matched / all), mean IoU, part with the same class.

        NaN where there is nothing to compare.
        """
        alone = sum(c.kind in ("only first", "only second") for c in self.conflicts)
        matched = len(self.matches)
        same = sum(m.first_class == m.second_class for m in self.matches)
        return {
            "pictures": self.pictures,
            "matched": matched,
            "F1": 2 * matched / (2 * matched + alone) if matched + alone else float("nan"),
            "mean IoU": float(np.mean([m.iou for m in self.matches])) if matched else float("nan"),
            "same class": same / matched if matched else float("nan"),
            "conflicts": len(self.conflicts),
        }

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(k)}</th><td>{v:.3g}</td></tr>" for k, v in self.summary.items()
        )
        return f"<table>{cells}</table>{conflict_table(self.conflicts, 20)}"


def agreement(first: Any, second: Any, *, threshold: float = 0.5) -> Agreement:
    """Match the instances of two annotators, picture by picture.

    Each instance is matched at most once, so that the sum of the IoUs is largest (Hungarian
    method); classes play no part in it.

    Parameters
    ----------
    first, second : DatasetAnnotator, AnnotationSet, or path
        Output folders of annotators, annotation files of any tool, or sets.
    threshold : float
        IoU from which two masks are the same object, 0 < IoU <= 1.

    Raises
    ------
    DataError
        If one cannot be read.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in 0..1, got {threshold!r}")
    left = {picture.name: picture for picture in read_any(first)}
    right = {picture.name: picture for picture in read_any(second)}
    matches: list[Match] = []
    conflicts: list[Conflict] = []
    common = [name for name in left if name in right]
    for name in common:
        _compare(left[name], right[name], threshold, matches, conflicts)
    return Agreement(
        len(common),
        tuple(name for name in left if name not in right),
        tuple(name for name in right if name not in left),
        tuple(matches),
        tuple(conflicts),
        threshold,
    )


def read_any(source: Any) -> Iterable[AnnotatedPicture]:
    """Return the annotated pictures of an annotator, a set, an output folder or a file."""
    if isinstance(source, AnnotationSet):
        return source
    if hasattr(source, "annotations") and callable(source.annotations):
        made: AnnotationSet = source.annotations()
        return made
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            "annotations are an annotator, an AnnotationSet, an output folder or a file; got "
            f"{type(source).__name__}"
        )
    path = Path(source)
    if (path / "index.jsonl").is_file():
        return _of_folder(path)
    from ..importing import read_annotations

    try:
        return read_annotations(path)
    except ExportError as error:
        raise DataError(str(error)) from error


def conflict_table(conflicts: Iterable[Conflict], limit: int) -> str:
    """Return an HTML table; names are escaped."""
    listed = list(conflicts)
    rows = "".join(
        f"<tr><td>{html.escape(c.picture)}</td><td>{html.escape(c.kind)}</td>"
        f"<td>{'' if c.first is None else c.first}</td>"
        f"<td>{'' if c.second is None else c.second}</td><td>{html.escape(c.detail)}</td></tr>"
        for c in listed[:limit]
    )
    more = f"<p>… and {len(listed) - limit} more</p>" if len(listed) > limit else ""
    head = "<tr><th>picture</th><th>conflict</th><th>first</th><th>second</th><th></th></tr>"
    return f"<table>{head}{rows}</table>{more}" if listed else "<p>No conflicts.</p>"


def _of_folder(path: Path) -> Iterable[AnnotatedPicture]:
    store = AnnotationStore(path, read_only=True)
    for key, record in store.items():
        if record.status == "done" or (record.status == "todo" and record.instances):
            session = store.load_session(key)
            if session is not None:
                yield AnnotatedPicture.from_session(session, name=key)


def _compare(
    first: AnnotatedPicture,
    second: AnnotatedPicture,
    threshold: float,
    matches: list[Match],
    conflicts: list[Conflict],
) -> None:
    name = first.name
    if (first.height, first.width) != (second.height, second.width):
        sizes = f"{first.width} x {first.height} and {second.width} x {second.height}"
        conflicts.append(Conflict(name, "size", None, None, sizes))
        return
    ids, table = _ious(first, second)
    pairs = _assign(table, threshold)
    classes = (
        {i.id: i.class_name for i in first.instances},
        {i.id: i.class_name for i in second.instances},
    )
    found: list[Conflict] = []
    for row, column in pairs:
        a, b = ids[0][row], ids[1][column]
        overlap = round(float(table[row, column]), 4)
        match = Match(name, a, b, classes[0][a], classes[1][b], overlap)
        matches.append(match)
        if match.first_class != match.second_class:
            detail = f"{match.first_class} or {match.second_class}"
            found.append(Conflict(name, "class", a, b, detail))
        if overlap < OUTLINE_IOU:
            found.append(Conflict(name, "outline", a, b, f"IoU {overlap:.2f}"))
    for row in sorted(set(range(len(ids[0]))) - {r for r, _ in pairs}):
        a = ids[0][row]
        found.append(Conflict(name, "only first", a, None, _alone(classes[0][a], table[row])))
    for column in sorted(set(range(len(ids[1]))) - {c for _, c in pairs}):
        b = ids[1][column]
        detail = _alone(classes[1][b], table[:, column])
        found.append(Conflict(name, "only second", None, b, detail))
    order = ("only first", "only second", "class", "outline", "size")
    conflicts.extend(sorted(found, key=lambda conflict: order.index(conflict.kind)))


def _alone(class_name: str, overlaps: NDArray[np.float64]) -> str:
    best = float(overlaps.max(initial=0.0))
    return f"{class_name}; best IoU {best:.2f}" if best > 0 else class_name


def _ious(
    first: AnnotatedPicture, second: AnnotatedPicture
) -> tuple[tuple[list[int], list[int]], NDArray[np.float64]]:
    """Return the ids of instances with pixels, and the (N, M) IoU of each with each."""
    from pycocotools import mask as coco_mask

    ids: list[list[int]] = []
    masks = []
    for picture in (first, second):
        cutouts = list(picture.cutouts())
        ids.append([cutout.instance.id for cutout in cutouts])
        masks.append(
            [coco_rle.encode(c.mask, picture.height, picture.width, c.x0, c.y0) for c in cutouts]
        )
    shape = (len(ids[0]), len(ids[1]))
    if 0 in shape:
        return (ids[0], ids[1]), np.zeros(shape)
    table = np.asarray(coco_mask.iou(masks[0], masks[1], [0] * shape[1]), np.float64)
    return (ids[0], ids[1]), table.reshape(shape)


def _assign(table: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    # What is below the threshold counts nothing, so that it does not push a good match aside.
    rows, columns = linear_sum_assignment(np.where(table >= threshold, table, 0.0), maximize=True)
    return [
        (int(r), int(c)) for r, c in zip(rows, columns, strict=True) if table[r, c] >= threshold
    ]
