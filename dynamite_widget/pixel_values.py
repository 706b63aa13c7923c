"""Values and shapes of arrays that hold pictures: to 0..255, or a clear refusal.

The rule for users is in `dynamite_widget.images.load_image`. Numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError


def shape_advice(array: NDArray[Any], what: str) -> str:
    """Say what shape would be right."""
    if what == "array" and array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return "channels come last: use array.transpose(1, 2, 0)"
    if array.ndim == 4:
        return "a batch is not one picture: give array[0], array[1], …"
    return "a picture is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"


def to_uint8(array: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Bring values to 0..255; the rule is in `load_image`."""
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return np.where(array, np.uint8(255), np.uint8(0))
    if kind == "u" and array.dtype.itemsize == 2:
        # Exactly round(v / 257), in integers: 65535 / 255 = 257.
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind in "iu":
        low, high = array.min(), array.max()
        if low < 0 or high > 255:
            raise ImageError(
                f"the {what} has dtype {array.dtype} and values {low}..{high}; integers must lie "
                "in 0..255, or be uint16 with 0..65535"
            )
        return array.astype(np.uint8)
    if kind == "f":
        return _float_to_uint8(array, what)
    raise ImageError(
        f"the {what} has dtype {array.dtype}; use uint8, uint16, bool, or float in 0..1 or 0..255"
    )


def _float_to_uint8(array: NDArray[Any], what: str) -> NDArray[np.uint8]:
    low, high = float(array.min()), float(array.max())  # NaN and inf come through min and max
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        raise ImageError(
            f"the {what} has NaN or infinite values ({count} of {array.size}); replace them first, "
            "with numpy.nan_to_num for example"
        )
    # A whisker outside the range is rounding noise of a resize or colour conversion.
    if low >= -1e-3 and high <= 1 + 1e-3:
        scale = 255.0
    elif low >= -0.5 and high <= 255.5:
        scale = 1.0
    else:
        raise ImageError(
            f"the {what} has float values {low:g}..{high:g}; they must lie in 0..1 or in 0..255 "
            "(undo a normalisation by mean and standard deviation first)"
        )
    scaled = array.astype(np.float32) * np.float32(scale)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)
