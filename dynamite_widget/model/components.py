"""Extension (e): an instance is what hangs together with its clicks (`connected_instances`).

A network that has learned from few pictures also lights up what looks like the clicked object,
elsewhere in the picture. Whoever wants a further part of an object that something else cuts in
pieces clicks it; so a region that none of the instance's clicks reaches is taken away.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .ranking import two_best
from .render import STRIDE
from .structures import ClickTensors

# How far below the next best channel a dropped pixel goes: little, so that it counts as doubtful.
_DROPPED = 0.5
# What one instance loses may fall to another one, whose clicks need not reach it either.
_PASSES = 2


def keep_clicked_regions(logits: Tensor, owners: tuple[int, ...], clicks: ClickTensors) -> Tensor:
    """Take away from each instance the connected regions that none of its clicks reaches.

    Parameters
    ----------
    logits : (C, h, w) Tensor
        Fused mask logits at stride 4, one channel per owner.
    owners : tuple of int
        Instance of each channel, 0 = background, -1 = to be ignored.
    clicks : ClickTensors
        Of all instances, in pixels of the network image.

    Returns
    -------
    (C, h, w) Tensor
        `logits` itself where nothing is to be taken away, else a copy in which the dropped pixels
        of an instance lie just below the next best channel. An instance whose clicks all miss its
        mask keeps all of it. Regions that touch at a corner count as connected.
    """
    height, width = logits.shape[-2:]
    places = clicks.yx.cpu().numpy()
    cells = np.clip(places // STRIDE, 0, (height - 1, width - 1)).astype(np.intp)
    instances = clicks.instance.cpu().numpy()
    meant = [channel for channel, owner in enumerate(owners) if owner >= 0]
    result = logits
    for _ in range(_PASSES):
        _, runner_up, place = two_best(result[channel] for channel in meant)
        winners = torch.tensor(meant, device=logits.device)[place.long()]
        dropped = _unreached(winners.cpu().numpy(), owners, cells, instances)
        if not dropped.any():
            break
        ys, xs = torch.from_numpy(dropped).to(logits.device).nonzero(as_tuple=True)
        result = result.clone() if result is logits else result
        result[winners[ys, xs], ys, xs] = runner_up[ys, xs] - _DROPPED
    return result


def _unreached(
    winners: NDArray[np.int64],
    owners: tuple[int, ...],
    cells: NDArray[np.intp],
    instances: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return (h, w) bool: pixels of regions that no click of their instance lies in."""
    dropped = np.zeros(winners.shape, bool)
    for channel, owner in enumerate(owners):
        own = winners == channel
        if owner < 1 or not own.any():
            continue
        count, regions = cv2.connectedComponents(own.view(np.uint8), connectivity=8)
        ys, xs = cells[instances == owner].T
        reached = np.zeros(count, bool)
        reached[regions[ys, xs]] = True
        reached[0] = False
        if reached.any() and not reached[1:].all():
            dropped |= own & ~reached[regions]
    return dropped
