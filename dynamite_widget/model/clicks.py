"""From the clicks of a session to those of the network: checked, timed, in network pixels."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import SessionError
from .structures import ClickTensors

if TYPE_CHECKING:
    from .predictor import ImageEmbedding


def check_clicks(
    clicks: Sequence[Any], height: int, width: int, instances: Iterable[int] | None = None
) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Validate clicks and give those without a time index one.

    Parameters
    ----------
    clicks : sequence of Click
        Anything with x, y, instance and t.
    height, width : int
        Size of the picture in pixels.
    instances : iterable of int, optional
        Instances that exist; by default those with clicks.

    Returns
    -------
    points : (N, 4) int64 array
        y, x, instance, t of each click, in the order given.
    instances : tuple of int
        Ascending.

    Raises
    ------
    SessionError
        See `Predictor.predict`.
    """
    known = None if instances is None else {_whole(i, "instance id", None) for i in instances}
    if known and min(known) < 1:
        raise SessionError(f"instance ids are >= 1 (0 is the background), got {min(known)}")
    points = np.zeros((len(clicks), 4), np.int64)
    times: dict[int, int] = {}
    places: dict[tuple[int, int], int] = {}
    for n, click in enumerate(clicks):
        where = f"click {n}"
        try:
            raw = (click.x, click.y, click.instance, getattr(click, "t", None))
        except AttributeError:
            raise SessionError(f"{where} is not a Click(x, y, instance): {click!r:.80}") from None
        x, y = _whole(raw[0], "x", where), _whole(raw[1], "y", where)
        instance = _whole(raw[2], "instance", where)
        if not (0 <= x < width and 0 <= y < height):
            raise SessionError(
                f"{where} at x={x}, y={y} is outside the picture; x must be 0..{width - 1}, "
                f"y 0..{height - 1}"
            )
        if instance < 0:
            raise SessionError(
                f"{where} has instance {instance}; use >= 1, or 0 for the background"
            )
        if known is not None and instance and instance not in known:
            raise SessionError(
                f"{where} belongs to unknown instance {instance}; instances: {sorted(known)}"
            )
        if (x, y) in places:
            other = places[x, y]
            relation = "the same" if other == instance else "another"
            raise SessionError(
                f"{where} (instance {instance}) lies at x={x}, y={y} like a click of {relation} "
                f"instance ({other}); each pixel takes one click"
            )
        places[x, y] = instance
        t = -1 if raw[3] is None else _whole(raw[3], "t", where)
        if raw[3] is not None:
            if t < 0:
                raise SessionError(f"{where} has t={t}; time indices are >= 0")
            if t in times:
                raise SessionError(f"{where} has t={t} like click {times[t]}; t must be unique")
            times[t] = n
        points[n] = y, x, instance, t
    missing = points[:, 3] < 0
    if missing.any():
        after = max(times, default=-1) + 1
        points[missing, 3] = after + np.arange(int(missing.sum()))
    ids = known if known is not None else {int(i) for i in points[:, 2] if i > 0}
    return points, tuple(sorted(ids))


def click_tensors(points: NDArray[np.int64], embedding: ImageEmbedding) -> ClickTensors:
    """Map checked clicks to network-image pixels: y · h' / h and x · w' / w, without rounding."""
    scale = np.asarray(
        [
            embedding.network_size[0] / embedding.height,
            embedding.network_size[1] / embedding.width,
        ]
    )
    yx = (points[:, :2] * scale).astype(np.float32)
    return ClickTensors(
        torch.from_numpy(yx),
        torch.from_numpy(np.ascontiguousarray(points[:, 3])),
        torch.from_numpy(np.ascontiguousarray(points[:, 2])),
    )


def _whole(value: Any, name: str, where: str | None) -> int:
    of = f"{where}: " if where else ""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise SessionError(f"{of}{name} must be an integer, got {value!r:.80}")
    return int(value)
