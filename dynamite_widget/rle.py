"""Row-major run lengths: of label maps for the wire, of single masks for session files.

Numpy only. COCO's column-major run lengths are another format; see `dynamite_widget.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import SessionError

MAX_ID = 65535


def encode(label_map: ArrayLike) -> tuple[NDArray[np.uint32], NDArray[np.unsignedinteger[Any]]]:
    """Encode a label map as runs of equal labels, row by row.

    Parameters
    ----------
    label_map : (H, W) integer or bool array
        Labels 0..65535.

    Returns
    -------
    lengths : (R,) uint32
        Run lengths in pixels; they sum to H * W. Runs go on over the ends of rows.
    ids : (R,) uint8 or uint16
        Label of each run; uint8 when all labels are below 256.

    Raises
    ------
    ValueError
        If the array is not two-dimensional, not integral, or holds labels outside 0..65535.
    """
    array = np.asarray(label_map)
    if array.ndim != 2:
        raise ValueError(f"a label map has two dimensions (H, W), got shape {array.shape}")
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"a label map is an integer or bool array, got dtype {array.dtype}")
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size == 0:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    values = flat[starts].astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > MAX_ID:
        raise ValueError(f"labels must lie in 0..{MAX_ID}, got {low}..{high}")
    lengths = np.diff(np.append(starts, flat.size)).astype(np.uint32)
    return lengths, values.astype(np.uint8 if high < 256 else np.uint16)


def decode(lengths: ArrayLike, ids: ArrayLike, height: int, width: int) -> NDArray[Any]:
    """Rebuild the (height, width) label map of `encode`; the dtype is that of `ids`.

    Raises
    ------
    ValueError
        If the runs do not fill exactly height * width pixels.
    """
    counts = np.asarray(lengths).astype(np.int64)
    values = np.asarray(ids)
    if counts.shape != values.shape or counts.ndim != 1:
        raise ValueError(f"as many run lengths as ids, got {counts.shape} and {values.shape}")
    total = int(counts.sum())
    if total != height * width or (counts < 0).any():
        raise ValueError(f"the runs hold {total} pixels, a {height} x {width} map {height * width}")
    return np.repeat(values, counts).reshape(height, width)


@dataclass(frozen=True)
class RLE:
    """One mask as row-major run lengths; immutable, comparable, hashable.

    Parameters
    ----------
    height, width : int
        Size of the mask in pixels.
    counts : bytes
        Run lengths as little-endian uint32; the first run is outside the mask (it may be 0).
    """

    height: int
    width: int
    counts: bytes

    @classmethod
    def from_mask(cls, mask: ArrayLike) -> RLE:
        """Encode an (H, W) bool mask (other dtypes: non-zero is inside)."""
        array = np.asarray(mask) != 0
        lengths, ids = encode(array)
        if ids.size and ids[0]:
            lengths = np.concatenate((np.zeros(1, np.uint32), lengths))
        return cls(array.shape[0], array.shape[1], lengths.astype("<u4").tobytes())

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """Run lengths (R,) uint32, outside and inside in turn, outside first."""
        return np.frombuffer(self.counts, "<u4").astype(np.uint32)

    @property
    def area(self) -> int:
        """Pixels inside the mask."""
        return int(self.lengths[1::2].astype(np.int64).sum())

    def decode(self) -> NDArray[np.bool_]:
        """Return the (height, width) bool mask."""
        lengths = self.lengths
        inside = np.arange(lengths.size) % 2 == 1
        return decode(lengths, inside, self.height, self.width)

    def to_json(self) -> dict[str, Any]:
        """Return ``{"size": [height, width], "counts": [...]}``."""
        return {"size": [self.height, self.width], "counts": self.lengths.tolist()}

    @classmethod
    def from_json(cls, fields: Any) -> RLE:
        """Rebuild from `to_json`.

        Raises
        ------
        SessionError
            If fields are missing, of the wrong type, or the runs do not fill the mask.
        """
        if not isinstance(fields, Mapping):
            raise SessionError(f"a mask is an object with size and counts, got {fields!r:.80}")
        size, counts = fields.get("size"), fields.get("counts")
        if not (isinstance(size, list) and len(size) == 2 and all(_is_count(n) for n in size)):
            raise SessionError(f"a mask's size is [height, width], got {size!r:.80}")
        if not (isinstance(counts, list) and all(_is_count(n) for n in counts)):
            raise SessionError("a mask's counts are a list of run lengths 0..4294967295")
        if sum(counts) != size[0] * size[1]:
            raise SessionError(
                f"the runs hold {sum(counts)} pixels, a {size[0]} x {size[1]} mask "
                f"{size[0] * size[1]}"
            )
        return cls(size[0], size[1], np.asarray(counts, "<u4").tobytes())


def as_rle(mask: RLE | ArrayLike | None) -> RLE | None:
    """Return a mask given as an RLE or as an (H, W) array as an RLE.

    Raises
    ------
    ValueError
        If an array does not have two dimensions.
    """
    return mask if mask is None or isinstance(mask, RLE) else RLE.from_mask(mask)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**32
