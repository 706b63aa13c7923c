"""A data set for evaluation: a list of pictures that are read one at a time, when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...errors import DataError
from ..samples import Sample

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Entry:
    """One picture of a data set: its unique key, and how to read it."""

    key: str
    read: Callable[[], Sample]


class EvaluationDataset:
    """Pictures with ground truth, in a fixed order.

    Parameters
    ----------
    name : str
        For reports.
    entries : sequence of Entry
        Keys must be unique.
    min_area_fraction : float
        Objects whose visible area is below this fraction of their picture become background.
    """

    def __init__(
        self, name: str, entries: Sequence[Entry], *, min_area_fraction: float = 0.0
    ) -> None:
        if not 0 <= min_area_fraction < 1:
            raise ValueError(f"min_area_fraction must be in 0 … 1, got {min_area_fraction}")
        self.name = name
        self.min_area_fraction = min_area_fraction
        self._entries = list(entries)
        if len({entry.key for entry in self._entries}) != len(self._entries):
            raise DataError(f"data set {name!r} names a picture twice")

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def keys(self) -> list[str]:
        """Keys of all pictures, in order."""
        return [entry.key for entry in self._entries]

    def __getitem__(self, index: int) -> Sample:
        sample = self._entries[index].read()
        if self.min_area_fraction > 0:
            sample = sample.keep_objects(self.min_area_fraction * sample.label_map.size)
        return sample

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def take(self, limit: int | None) -> EvaluationDataset:
        """Return the data set cut down to `limit` pictures, spread evenly over its order."""
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        chosen = [self._entries[index * len(self) // limit] for index in range(limit)]
        return EvaluationDataset(self.name, chosen, min_area_fraction=self.min_area_fraction)


def need(path: Path, what: str, how_to_get: str) -> Path:
    """Return `path` if it exists.

    Raises
    ------
    DataError
        Saying what was expected where, and how to get the data set.
    """
    if not path.exists():
        raise DataError(f"{what} expected at {str(path)!r}, which does not exist. {how_to_get}")
    return path


def files_by_stem(folder: Path) -> dict[str, Path]:
    """Return the pictures in a folder by name without suffix, sorted by name."""
    return {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in PICTURE_SUFFIXES
    }


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an RGB picture as stored: masks refer to the stored pixels, so EXIF is not applied.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"picture {str(path)!r} cannot be read: {error}") from error


def read_index_map(path: Path) -> NDArray[np.integer]:
    """Read a mask file as numbers (H, W): palette indices, grey values, or the largest channel.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture)
    except (OSError, ValueError) as error:
        raise DataError(f"mask {str(path)!r} cannot be read: {error}") from error
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    if values.ndim == 3:
        values = values[..., :3].max(axis=2)
    return values.astype(np.int32)


def check_sizes(key: str, image: NDArray[np.uint8], mask: NDArray[np.generic]) -> None:
    """Raise `DataError` if a mask is not of the size of its picture."""
    if mask.shape != image.shape[:2]:
        raise DataError(
            f"mask of {key!r} is {mask.shape[1]}x{mask.shape[0]} pixels, "
            f"its picture {image.shape[1]}x{image.shape[0]}"
        )
