"""Where to look next: the regions in which the network hesitates between two labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DOUBTFUL_MARGIN = 1.0
"""Logits; the loser's probability is above 27 %."""
MAX_REGIONS = 50


@dataclass(frozen=True)
class DoubtfulRegion:
    """The largest disc inside a region of small margin.

    Parameters
    ----------
    x, y : int
        Its centre, in pixels of the picture.
    radius : float
        In pixels of the picture.
    """

    x: int
    y: int
    radius: float


def doubtful_regions(
    margin: NDArray[np.floating[Any]], height: int, width: int
) -> tuple[DoubtfulRegion, ...]:
    """Return the doubtful regions of a picture, largest first.

    Every outline of a mask is a thin line of small margin, however sure the network is; therefore
    the size of a region is that of the largest disc inside it, not its area, and lines of up to
    three pixels do not count.

    Parameters
    ----------
    margin : (h, w) float array
        Top-1 minus top-2 logit of the whole picture at any size.
    height, width : int
        Size of the picture.
    """
    from scipy import ndimage

    doubtful = margin < DOUBTFUL_MARGIN
    if not doubtful.any():
        return ()
    # The picture's edge bounds a region like a certain pixel does.
    depth = ndimage.distance_transform_edt(np.pad(doubtful, 1))[1:-1, 1:-1]
    regions, count = ndimage.label(doubtful)
    places = ndimage.maximum_position(depth, regions, np.arange(1, count + 1))
    y_step, x_step = height / margin.shape[0], width / margin.shape[1]
    found = [(float(depth[row, column]), int(row), int(column)) for row, column in places]
    found = sorted((f for f in found if f[0] > 2.0), key=lambda f: (-f[0], f[1], f[2]))
    return tuple(
        DoubtfulRegion(
            min(width - 1, int((column + 0.5) * x_step)),
            min(height - 1, int((row + 0.5) * y_step)),
            round(radius * max(x_step, y_step), 1),
        )
        for radius, row, column in found[:MAX_REGIONS]
    )
