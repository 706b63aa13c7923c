"""What all readers share: problems found, class names, pictures by name, pictures being built."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..colours import is_colour
from ..errors import ExportError
from ..export.annotation_set import AnnotatedInstance, AnnotatedPicture
from ..export.files import file_stem
from ..rle import MAX_ID, RLE
from ..session_state import MAX_CLASS_NAME, MAX_SIDE

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**31
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2"}
)
NUMBER_ERRORS = (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError)
"""What malformed entries of a file come to when they are used."""


class Problems:
    """Collects the unusable entries of a file, which are left out, and reports them together."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Remember one."""
        self.messages.append(message)

    def report(self) -> None:
        """Log one warning for all."""
        if self.messages:
            more = f"; and {len(self.messages) - 5} more" if len(self.messages) > 5 else ""
            logger.warning(
                "%s: %d entries left out: %s%s",
                self.path,
                len(self.messages),
                "; ".join(self.messages[:5]),
                more,
            )


class Draft:
    """A picture that is being read: masks come in any order and may overlap.

    Parameters
    ----------
    name : str
        Of the picture.
    height, width : int
        In pixels; checked.
    """

    def __init__(self, name: Any, height: Any, width: Any) -> None:
        self.name = str(name) or "picture"
        self.height, self.width = whole(height, "height"), whole(width, "width")
        if self.height * self.width >= MAX_PIXELS:
            raise ValueError(f"a picture of {self.height} x {self.width} pixels is too large")
        self.masks: list[RLE | None] = []
        self.details: list[dict[str, Any]] = []

    def add(
        self,
        mask: NDArray[np.bool_] | RLE | None,
        class_name: Any,
        number: Any = None,
        **details: Any,
    ) -> None:
        """Add an instance; `number` is its id if the file knows one, None for a mask is empty."""
        if mask is not None and not isinstance(mask, RLE):
            mask = RLE.from_mask(mask)
        if mask is not None and (mask.height, mask.width) != (self.height, self.width):
            raise ValueError(
                f"mask of {mask.height} x {mask.width} in a picture of {self.height} x {self.width}"
            )
        valid = type(number) is int and 1 <= number <= MAX_ID
        self.masks.append(mask if mask is not None and mask.area else None)
        self.details.append(
            {"id": number if valid else None, "class_name": class_of(class_name), **details}
        )

    def finish(self, **fields: Any) -> tuple[AnnotatedPicture, list[int]]:
        """Return the picture, and the id that each mask got, in the order of `add`.

        Ids that the file knows are kept. The rest are numbered in order; where masks overlap, from
        small to large, because the lower id lies on top.
        """
        taken = {d["id"] for d in self.details if d["id"] is not None}
        seen: set[int] = set()
        order = list(range(len(self.masks)))
        if _overlap(self.masks, self.height, self.width):
            order.sort(key=lambda k: mask.area if (mask := self.masks[k]) is not None else 0)
        ids = [0] * len(order)
        following = 1
        for k in order:
            wanted = self.details[k]["id"]
            if wanted is None or wanted in seen:
                while following in taken:
                    following += 1
                wanted = following
                taken.add(wanted)
            seen.add(wanted)
            ids[k] = wanted
        if max(ids, default=0) > MAX_ID:
            raise ExportError(f"{self.name!r} has more than {MAX_ID} instances")
        instances = [
            AnnotatedInstance(**{**details, "id": number})
            for number, details in zip(ids, self.details, strict=True)
        ]
        masks = {n: mask for n, mask in zip(ids, self.masks, strict=True) if mask is not None}
        picture = AnnotatedPicture.from_masks(
            instances, masks, self.height, self.width, self.name, **fields
        )
        return picture, ids


def from_labels(
    labels: NDArray[np.integer[Any]], note: Mapping[str, Any], name: str
) -> AnnotatedPicture:
    """Return a picture from a map of instance ids and the note that our own PNGs carry."""
    if labels.size == 0 or int(labels.max()) > MAX_ID or int(labels.min()) < 0:
        raise ExportError(f"{name!r}: labels must lie in 0..{MAX_ID}")
    described = {i: (c, colour) for i, c, colour in instances_of(note)}
    ids = sorted({*(int(i) for i in np.unique(labels) if i), *described})
    picture = AnnotatedPicture.from_label_map(
        labels,
        {i: described[i][0] if i in described else "object" for i in ids},
        str(note.get("name") or name),
        classes=classes_of(note.get("classes")),
    )
    coloured = tuple(
        AnnotatedInstance(i.id, i.class_name, colour=described.get(i.id, ("", ""))[1])
        for i in picture.instances
    )
    object.__setattr__(picture, "instances", coloured)
    return picture


def instances_of(note: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """Return id, class and colour ("" if none) of the instances that a note describes."""
    entries = note.get("instances")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and type(entry.get("id")) is int and 1 <= entry["id"] <= MAX_ID:
            found.append((entry["id"], class_of(entry.get("class")), colour_of(entry)))
    return found


def classes_of(names: Any) -> tuple[str, ...]:
    """Return class names from a list in a file; nothing if it is none."""
    return tuple(class_of(name) for name in names) if isinstance(names, list) else ()


def class_of(value: Any) -> str:
    """Return a usable class name: unprintable characters replaced, cut to what sessions allow."""
    text = "" if value is None else str(value)
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text[:MAX_CLASS_NAME].strip() or "object"


def colour_of(entry: Any) -> str:
    """Return the colour under ``"colour"`` if it is one of ours, else ""."""
    colour = entry.get("colour") if isinstance(entry, Mapping) else None
    return colour if isinstance(colour, str) and is_colour(colour) else ""


def whole(value: Any, name: str) -> int:
    """Return a side of a picture as an int >= 1; ValueError otherwise."""
    if isinstance(value, bool) or int(value) != float(value) or not 1 <= int(value) <= MAX_SIDE:
        raise ValueError(f"{name} must be a whole number from 1, got {value!r:.40}")
    return int(value)


def pictures_in(folder: Path) -> dict[str, Path]:
    """Return the picture files of a folder and its sub folders by stem."""
    if not folder.is_dir():
        raise ExportError(f"{str(folder)!r} is no folder of pictures")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            found.setdefault(file_stem(path.name), path)
    return found


def picture_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of a picture as it is shown (EXIF orientation applied)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ExportError(f"{os.fspath(path)!r} is no readable picture: {error}") from error
    return (width, height) if turned else (height, width)


def _overlap(masks: Iterable[RLE | None], height: int, width: int) -> bool:
    """Tell whether any pixel belongs to two masks."""
    covered = np.zeros(height * width, bool)
    for mask in masks:
        if mask is not None:
            inside = mask.decode().reshape(-1)
            if (covered & inside).any():
                return True
            covered |= inside
    return False
