"""The packed form of label maps that change step by step: what differs, as run lengths, deflated.

Files and the HTML story hold the same bytes, which browsers inflate without a library. Numpy only.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import rle
from ..errors import SessionError

LabelMap = NDArray[np.int32]


def pack(label_maps: Iterable[NDArray[np.integer[Any]]]) -> bytes:
    """Pack label maps of one size, each as its difference to the one before.

    A step is the number of its runs, their lengths and their values: 0 = as before, k + 1 = now
    label k. All numbers are little-endian base-128 (LEB128), and everything together is deflated.

    Parameters
    ----------
    label_maps : iterable of (H, W) integer arrays
        Labels 0..65534; what stands before the first is all background.

    Returns
    -------
    bytes
    """
    parts: list[bytes] = []
    before: NDArray[np.integer[Any]] | None = None
    for labels in label_maps:
        old = np.zeros_like(labels) if before is None else before
        change = np.where(labels != old, labels.astype(np.int64) + 1, 0)
        lengths, values = rle.encode(change)
        parts.append(_leb128([len(lengths)]) + _leb128(lengths) + _leb128(values))
        before = labels
    return zlib.compress(b"".join(parts), 9)


def unpack(data: bytes, height: int, width: int, steps: int) -> list[tuple[Any, Any]]:
    """Return the (lengths, values) of each step; see `apply`.

    Raises
    ------
    SessionError
        If the data is damaged or does not hold this many steps of this size.
    """
    limit = 64 * 2**20
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(data, limit)
    except zlib.error as error:
        raise SessionError(f"the recorded masks are damaged: {error}") from error
    if inflater.unconsumed_tail or not inflater.eof:
        raise SessionError("the recorded masks are damaged: cut short, or far too large")
    numbers = _from_leb128(raw)
    found, place = [], 0
    for step in range(steps):
        count = int(numbers[place]) if place < len(numbers) else -1
        end = place + 1 + 2 * count
        if count < 0 or end > len(numbers):
            raise SessionError(f"the recorded masks end in step {step} of {steps}")
        lengths = numbers[place + 1 : place + 1 + count]
        values = numbers[place + 1 + count : end]
        if int(lengths.sum()) != height * width or int(values.max(initial=0)) > rle.MAX_ID:
            raise SessionError(f"the recorded masks of step {step} do not fit the picture")
        found.append((lengths, values))
        place = end
    if place != len(numbers):
        raise SessionError(f"the recorded masks hold more than {steps} steps")
    return found


def apply(before: LabelMap, step: tuple[Any, Any]) -> LabelMap:
    """Return the label map after one step of `unpack`."""
    lengths, values = step
    change = rle.decode(lengths, values, *before.shape)
    return np.where(change > 0, change - 1, before).astype(np.int32)


def _leb128(numbers: Sequence[int] | NDArray[Any]) -> bytes:
    """Encode numbers 0..2**35 - 1, seven bits per byte, low bits first."""
    values = np.asarray(numbers, np.int64)
    digits = np.stack([(values >> (7 * place)) & 127 for place in range(5)], axis=1)
    count = np.maximum(1, 5 - np.argmax(digits[:, ::-1] > 0, axis=1))
    count[~(digits > 0).any(axis=1)] = 1
    place = np.arange(5)
    more = place < count[:, None] - 1
    used = place < count[:, None]
    return (digits | (more * 128)).astype(np.uint8)[used].tobytes()


def _from_leb128(data: bytes) -> NDArray[np.int64]:
    octets = np.frombuffer(data, np.uint8)
    if octets.size == 0:
        return np.zeros(0, np.int64)
    last = octets < 128
    if not last[-1]:
        raise SessionError("the recorded masks are damaged: a number is cut short")
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    place = np.arange(octets.size) - np.repeat(starts, np.diff(np.append(starts, octets.size)))
    if place.max() > 4:
        raise SessionError("the recorded masks are damaged: a number is too long")
    digits = (octets & 127).astype(np.int64) << (7 * place)
    return np.add.reduceat(digits, starts)
