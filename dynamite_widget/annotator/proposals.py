"""Proposals: boxes, points and masks of a detector or an old file, for a person to accept.

A mask becomes an instance that has it until it is edited; a box or point becomes a click, and the
network makes the mask.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SessionError
from ..rle import RLE
from ..session_state import SessionState, as_class_name


@dataclass(frozen=True)
class Proposal:
    """An object that somebody thinks is there.

    Parameters
    ----------
    box : (x0, y0, x1, y1) or None
        In pixels, ends exclusive.
    point : (x, y) or None
        A pixel.
    mask : RLE or None
        At full resolution.
    class_name : str or None
    score : float or None
        0..1.
    """

    box: tuple[float, float, float, float] | None = None
    point: tuple[int, int] | None = None
    mask: RLE | None = None
    class_name: str | None = None
    score: float | None = None

    @property
    def kind(self) -> str:
        """``"mask"``, ``"box"`` or ``"point"``."""
        return "mask" if self.mask is not None else "box" if self.box is not None else "point"

    def bounds(self) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 of what is proposed, in pixels; of a point its own pixel."""
        if self.mask is not None:
            inside = self.mask.decode()
            ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            if not ys.size:
                return 0.0, 0.0, 0.0, 0.0
            return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)
        if self.box is not None:
            return self.box
        assert self.point is not None
        x, y = self.point
        return float(x), float(y), float(x + 1), float(y + 1)

    def edit(self, state: SessionState) -> tuple[str, dict[str, Any]]:
        """Return the intent, and its arguments, that accepts this in a session state.

        Raises
        ------
        SessionError
            If it lies outside the picture, or its size is not the picture's.
        """
        if self.mask is not None:
            return "new_instance", {"class_name": self.class_name, "mask": self.mask}
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            x, y = int((x0 + x1) / 2), int((y0 + y1) / 2)
        else:
            assert self.point is not None
            x, y = self.point
        taken = {(click.x, click.y) for click in state.clicks}
        while (x, y) in taken and x + 1 < state.width:
            x += 1
        return "click", {"x": x, "y": y, "instance": "new", "class_name": self.class_name}


Propose = Callable[[Any], Any]


def read_proposals(value: Any) -> list[Proposal]:
    """Make proposals of what a callable returned.

    Parameters
    ----------
    value : object
        None; a `Proposal`; an `AnnotatedPicture`; a mapping with ``box``, ``point`` or ``mask``
        and, if known, ``class`` and ``score``; a mapping with ``boxes``, ``points`` or ``masks``
        and ``classes`` and ``scores`` of the same length; an array: (N, 4) boxes x0, y0, x1, y1,
        (N, 2) points x, y, (N, H, W) bool masks, (H, W) a mask or label map; a list of any of
        these, where four numbers are a box and two a point.

    Raises
    ------
    SessionError
        If it is none of these.
    """
    if value is None:
        return []
    if isinstance(value, Proposal):
        return [value]
    if isinstance(value, RLE):
        return [Proposal(mask=value)]
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if hasattr(value, "cutouts"):
        return _of_annotated(value)
    if isinstance(value, (list, tuple)) and not _is_numbers(value):
        return [proposal for item in value for proposal in read_proposals(item)]
    return _of_array(value)


def proposals_of_file(path: str | os.PathLike[str]) -> Propose:
    """Return a callable that proposes what an annotation file says of a picture, found by name."""
    from ..importing import read_annotations

    by_name: dict[str, Any] = {}
    for picture in read_annotations(path):
        by_name.setdefault(Path(picture.name).name, picture)
        by_name[picture.name] = picture

    def propose(item: Any) -> Any:
        return by_name.get(item.name) or by_name.get(Path(item.name).name)

    return propose


def _of_mapping(value: Mapping[str, Any]) -> list[Proposal]:
    class_name, score = value.get("class", value.get("class_name")), value.get("score")
    for kind in ("mask", "box", "point"):
        if value.get(kind) is not None:
            given = value[kind]
            made = read_proposals(given) if kind == "mask" else [_one(kind, given)]
            return [_described(proposal, class_name, score) for proposal in made]
    for kind in ("masks", "boxes", "points"):
        if value.get(kind) is not None:
            given = list(value[kind])
            classes = _as_list(value.get("classes", class_name), len(given), "classes")
            scores = _as_list(value.get("scores", score), len(given), "scores")
            made = []
            for item, name, number in zip(given, classes, scores, strict=True):
                singles = read_proposals(item) if kind == "masks" else [_one(kind, item)]
                made += [_described(single, name, number) for single in singles]
            return made
    raise SessionError(
        f"a proposal has 'box', 'point' or 'mask' (or 'boxes', …), got {sorted(map(str, value))}"
    )


def _of_annotated(picture: Any) -> list[Proposal]:
    return [
        Proposal(
            mask=RLE.from_mask(cutout.full(picture.height, picture.width)),
            class_name=cutout.instance.class_name,
            score=cutout.instance.score,
        )
        for cutout in picture.cutouts()
    ]


def _of_array(value: Any) -> list[Proposal]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.size == 0 and array.ndim <= 2:
        return []
    if array.dtype == bool and array.ndim in (2, 3):
        planes = array[None] if array.ndim == 2 else array
        return [Proposal(mask=RLE.from_mask(plane)) for plane in planes]
    if array.dtype.kind in "iuf" and array.ndim <= 2 and array.shape[-1] in (2, 4):
        kind = "point" if array.shape[-1] == 2 else "box"
        return [_one(kind, row) for row in array.reshape(-1, array.shape[-1])]
    if array.dtype.kind in "iu" and array.ndim == 2:
        return [
            Proposal(mask=RLE.from_mask(array == label)) for label in np.unique(array) if label > 0
        ]
    raise SessionError(
        "proposals are boxes (N, 4), points (N, 2), bool masks (N, H, W) or a label map (H, W); "
        f"got shape {array.shape}, dtype {array.dtype}"
    )


def _one(kind: str, value: Any) -> Proposal:
    numbers = [float(v) for v in np.asarray(value, np.float64).reshape(-1)]
    if not all(np.isfinite(numbers)):
        raise SessionError(f"coordinates must be finite, got {numbers}")
    if kind.startswith("point") and len(numbers) == 2:
        return Proposal(point=(int(numbers[0]), int(numbers[1])))
    if kind.startswith("box") and len(numbers) == 4:
        x0, y0, x1, y1 = numbers
        if x1 > x0 and y1 > y0:
            return Proposal(box=(x0, y0, x1, y1))
        raise SessionError(f"a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {numbers}")
    raise SessionError(f"a box has four numbers, a point two; got {numbers}")


def _described(proposal: Proposal, class_name: Any, score: Any) -> Proposal:
    return Proposal(
        proposal.box,
        proposal.point,
        proposal.mask,
        proposal.class_name if class_name is None else as_class_name(class_name),
        proposal.score if score is None else float(score),
    )


def _as_list(value: Any, count: int, name: str) -> Iterable[Any]:
    if value is None or isinstance(value, (str, int, float)):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise SessionError(f"{count} proposals, but {len(values)} {name}")
    return values


def _is_numbers(value: Any) -> bool:
    return bool(value) and all(isinstance(v, (int, float, np.number)) for v in value)
