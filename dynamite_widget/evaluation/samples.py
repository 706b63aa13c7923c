"""What is evaluated: one picture with the ground truth of its objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .robot import paint_by_area


@dataclass(frozen=True)
class ObjectInfo:
    """An object of a picture: its number in the label map, class, and identity in the data set."""

    number: int
    class_name: str = "object"
    source_id: int | str | None = None


@dataclass(frozen=True)
class Sample:
    """One picture with ground truth.

    Parameters
    ----------
    key : str
        Unique within the data set; resuming and seeding depend on it.
    image : (H, W, 3) uint8
        RGB.
    label_map : (H, W) int32
        0 = background, k = object number k; objects by descending area.
    objects : tuple of ObjectInfo
        Numbers 1 … n in order; a completely hidden object is listed and owns no pixel.
    ignore : (H, W) bool or None
        Pixels of unknown label.
    source : str
        Where the picture comes from, for per-source tables.
    whole_masks : tuple of (H, W) bool, or None
        The masks of the objects before overlaps were resolved; None if nothing overlaps.
    """

    key: str
    image: NDArray[np.uint8]
    label_map: NDArray[np.int32]
    objects: tuple[ObjectInfo, ...]
    ignore: NDArray[np.bool_] | None = None
    source: str = ""
    whole_masks: tuple[NDArray[np.bool_], ...] | None = None

    def target(self, number: int) -> NDArray[np.bool_]:
        """Return the (H, W) mask of one object as the single-instance protocol sees it: alone.

        Where masks overlap this is the whole mask, not only the visible part.
        """
        if self.whole_masks is not None:
            return self.whole_masks[number - 1]
        return self.label_map == number

    def without_hidden(self) -> Sample:
        """Return the sample without objects that own no pixel, renumbered."""
        return self.keep_objects(1)

    def keep_objects(self, min_area_px: float) -> Sample:
        """Return the sample with the objects of at least that visible area, renumbered.

        Removed objects become background.
        """
        areas = np.bincount(self.label_map.reshape(-1), minlength=len(self.objects) + 1)
        kept = [info for info in self.objects if areas[info.number] >= min_area_px]
        if len(kept) == len(self.objects):
            return self
        table = np.zeros(len(areas), np.int32)
        for number, info in enumerate(kept, start=1):
            table[info.number] = number
        objects = tuple(replace(info, number=number) for number, info in enumerate(kept, start=1))
        whole = self.whole_masks
        if whole is not None:
            whole = tuple(whole[info.number - 1] for info in kept)
        return replace(self, label_map=table[self.label_map], objects=objects, whole_masks=whole)


def make_sample(
    key: str,
    image: NDArray[np.uint8],
    masks: Sequence[NDArray[np.generic]],
    *,
    class_names: Sequence[str] | None = None,
    source_ids: Sequence[int | str | None] | None = None,
    ignore: NDArray[np.bool_] | None = None,
    source: str = "",
    min_area_fraction: float = 0.0,
) -> Sample:
    """Build a `Sample` from possibly overlapping masks (smaller objects on top).

    Parameters
    ----------
    masks : N masks of shape (H, W)
        May be empty; their shape must be that of the picture.
    min_area_fraction : float
        Objects whose visible area is below this fraction of the picture become background.
    """
    height, width = image.shape[:2]
    for index, mask in enumerate(masks):
        if np.asarray(mask).shape != (height, width):
            raise ValueError(
                f"mask {index} of {key!r} has shape {np.asarray(mask).shape}, "
                f"the picture has {(height, width)}"
            )
    if len(masks) == 0:
        return Sample(key, image, np.zeros((height, width), np.int32), (), ignore, source)
    label_map, order = paint_by_area(masks)
    objects = tuple(
        ObjectInfo(
            number,
            class_names[index] if class_names is not None else "object",
            source_ids[index] if source_ids is not None else None,
        )
        for number, index in enumerate(order, start=1)
    )
    binary = [np.asarray(masks[index], dtype=bool) for index in order]
    overlapping = sum(int(mask.sum()) for mask in binary) != int((label_map > 0).sum())
    whole = tuple(binary) if overlapping else None
    sample = Sample(key, image, label_map, objects, ignore, source, whole)
    if min_area_fraction > 0:
        sample = sample.keep_objects(min_area_fraction * height * width)
    return sample
