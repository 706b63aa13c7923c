"""Simulated clicks for training (ARCHITECTURE 6.2 and 6.3) on label maps.

All work is done on arrays with OpenCV's distance transform, one call per object and round; the
robot annotator of the evaluation protocols lives elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClickConfig:
    """How people are imitated.

    Attributes
    ----------
    extra, background_extra : int
        At most so many further initial clicks per object / on the background; m of them with
        probability proportional to ``decay ** m``.
    decay : float
        See above (paper: 0.7).
    no_background : float
        Probability of no initial background click (paper: 0.2).
    centre : float
        First clicks lie where the distance transform exceeds ``max / centre`` (paper: 1.7).
    careless : float
        Probability that a click may lie anywhere in its region, not just near the middle.
    exact : float
        Probability that a corrective click is the middle of the error, as a robot would click.
    max_objects : int
        At most so many of the worst objects get a corrective click per round (paper: 15).
    good_iou : float
        Objects at or above this IoU get none (paper: 0.90).
    two : float
        Probability of two corrective clicks instead of one (paper: 0.2).
    single : float
        Probability that a round corrects one object only, the one with the largest error.
    shuffle : bool
        Whether objects are clicked in random order (the paper goes by object).
    """

    extra: int = 5
    background_extra: int = 6
    decay: float = 0.7
    no_background: float = 0.2
    centre: float = 1.7
    careless: float = 0.0
    exact: float = 0.0
    max_objects: int = 15
    good_iou: float = 0.90
    two: float = 0.2
    single: float = 0.0
    shuffle: bool = False


PAPER_CLICKS = ClickConfig()


@dataclass(frozen=True)
class Clicks:
    """Clicks of one picture.

    Attributes
    ----------
    yx : (N, 2) float32
        Row and column in network-image pixels.
    t : (N,) int64
        Increasing time index.
    instance : (N,) int64
        Instance clicked on, 0 = background.
    """

    yx: NDArray[np.float32]
    t: NDArray[np.int64]
    instance: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.t)

    @classmethod
    def build(cls, rows: list[tuple[int, int, int]]) -> Clicks:
        """Make clicks out of (row, column, instance), in time order."""
        table = np.array(rows, np.int64).reshape(-1, 3)
        return cls(table[:, :2].astype(np.float32), np.arange(len(table)), table[:, 2].copy())

    def then(self, rows: list[tuple[int, int, int]]) -> Clicks:
        """Return a copy with more clicks (row, column, instance) at the next time indices."""
        if not rows:
            return self
        more = np.array(rows, np.int64).reshape(-1, 3)
        start = int(self.t.max(initial=-1)) + 1
        return Clicks(
            np.concatenate([self.yx, more[:, :2].astype(np.float32)]),
            np.concatenate([self.t, start + np.arange(len(more))]),
            np.concatenate([self.instance, more[:, 2]]),
        )


def depth(mask: NDArray[Any]) -> tuple[NDArray[np.float32], int, int]:
    """Euclidean distance of every pixel of `mask` to the nearest pixel outside.

    Outside the picture counts as outside the mask (section 6.2: "padded by one pixel").

    Returns
    -------
    distance : (h, w) float32
        On the bounding box of the mask only (1 x 1 zero for an empty mask).
    top, left : int
        Position of the box.
    """
    as_bytes = mask.view(np.uint8) if mask.dtype == np.bool_ else mask.astype(np.uint8)
    left, top, width, height = cv2.boundingRect(as_bytes)
    if not width:
        return np.zeros((1, 1), np.float32), 0, 0
    box = cv2.copyMakeBorder(
        as_bytes[top : top + height, left : left + width], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    distance = cv2.distanceTransform(box, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance[1:-1, 1:-1], np.float32), top, left


def _draw(
    candidates: NDArray[np.bool_], count: int, rng: np.random.Generator, top: int, left: int
) -> list[tuple[int, int]]:
    """Draw pixels of a mask, uniformly and without replacement, as (row, column)."""
    flat = np.flatnonzero(candidates)
    count = min(count, len(flat))
    if not count:
        return []
    if count == 1:
        picked = flat[[int(rng.integers(len(flat)))]]
    else:
        picked = rng.choice(flat, count, replace=False)
    width = candidates.shape[1]
    return [(int(p) // width + top, int(p) % width + left) for p in picked]


def _count(maximum: int, decay: float, rng: np.random.Generator) -> int:
    """Draw m in 0..maximum with P(m) proportional to decay ** m."""
    weights = np.cumsum(decay ** np.arange(maximum + 1))
    return int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)) > 0


def initial_clicks(
    label_map: NDArray[Any],
    valid: NDArray[np.bool_],
    rng: np.random.Generator,
    config: ClickConfig = PAPER_CLICKS,
) -> Clicks:
    """Clicks before the first prediction (section 6.2).

    Parameters
    ----------
    label_map : (H, W) integer
        0 background, 1..n objects; every object must own a pixel.
    valid : (H, W) bool
        False on padding, which is neither object nor background.
    rng, config
        Source of chance and its probabilities.

    Returns
    -------
    Clicks
        At least one per object.
    """
    per_object: list[list[tuple[int, int, int]]] = []
    for k in range(1, int(label_map.max(initial=0)) + 1):
        mask = label_map == k
        distance, top, left = depth(mask)
        bound = distance.max() / config.centre
        if config.careless and rng.random() < config.careless:
            bound = min(1.0, float(distance.max()) - 0.5)
        points = _draw(distance > bound, 1, rng, top, left)
        extra = _count(config.extra, config.decay, rng)
        if extra:
            inner = distance > 1.5  # the same pixels as one erosion with a 3 x 3 square, nearly
            extra = min(extra, int(inner.sum()) // 2)
            points += _draw(inner, extra, rng, top, left)
        per_object.append([(y, x, k) for y, x in points])
    if config.shuffle:
        order = rng.permutation(len(per_object))
        rows = [per_object[i][0] for i in order if per_object[i]]
        rest = [row for i in order for row in per_object[i][1:]]
        rows += [rest[i] for i in rng.permutation(len(rest))]
    else:
        rows = [row for group in per_object for row in group]
    if rng.random() >= config.no_background:
        count = _count(config.background_extra, config.decay, rng)
        if count:
            free = _eroded((label_map == 0) & valid)
            rows += [(y, x, 0) for y, x in _draw(free, count, rng, 0, 0)]
    return Clicks.build(rows)


def object_ious(
    predicted: NDArray[Any], label_map: NDArray[Any], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """IoU of every object 1..n of `label_map` in the prediction (n,), 1 for an empty object."""
    n = int(label_map.max(initial=0)) + 1
    truth = label_map.astype(np.int64)
    guess = np.minimum(predicted.astype(np.int64), n)  # an id that is no object counts as another
    pairs = truth * (n + 1) + guess
    counted = np.bincount((pairs if valid is None else pairs[valid]).ravel(), minlength=n * (n + 1))
    table = counted[: n * (n + 1)].reshape(n, n + 1)
    hits = table[np.arange(n), np.arange(n)]
    union = table.sum(axis=1) + table.sum(axis=0)[:n] - hits
    ious = np.divide(hits, union, out=np.ones(n), where=union > 0)
    return ious[1:]


def _correct(
    wrong_missing: NDArray[np.bool_],
    wrong_extra: NDArray[np.bool_],
    rng: np.random.Generator,
    config: ClickConfig,
) -> list[tuple[int, int]]:
    """Click into the deeper of the two error regions of one object."""
    missing, extra = depth(wrong_missing), depth(wrong_extra)
    distance, top, left = missing if missing[0].max() > extra[0].max() else extra
    deepest = float(distance.max())
    if deepest <= 0:
        return []
    bound = deepest / 2
    if config.exact and rng.random() < config.exact:
        bound = deepest * 0.98
    elif config.careless and rng.random() < config.careless:
        bound = min(1.0, deepest - 0.5)
    count = 2 if rng.random() < config.two else 1
    return _draw(distance > bound, count, rng, top, left)


def corrective_clicks(
    predicted: NDArray[Any],
    label_map: NDArray[Any],
    valid: NDArray[np.bool_],
    clicks: Clicks,
    rng: np.random.Generator,
    config: ClickConfig = PAPER_CLICKS,
) -> Clicks:
    """One round of corrections on one picture (section 6.3).

    Parameters
    ----------
    predicted, label_map : (H, W) integer
        What the network says now, and the truth (0 background, 1..n objects).
    valid : (H, W) bool
        False on padding, where errors do not count.
    clicks : Clicks
        The clicks so far.

    Returns
    -------
    Clicks
        The clicks so far and the new ones. A new click belongs to whatever lies under it.
    """
    ious = object_ious(predicted, label_map, valid)
    order = np.argsort(ious, kind="stable")
    worst = [int(i) + 1 for i in order if ious[i] < config.good_iou][: config.max_objects]
    if not worst:
        return clicks
    wrong = (predicted != label_map) & valid
    if config.single and len(worst) > 1 and rng.random() < config.single:
        sizes = [int((wrong & ((label_map == k) | (predicted == k))).sum()) for k in worst]
        worst = [worst[int(np.argmax(sizes))]]
    taken = {(int(y), int(x)) for y, x in clicks.yx}
    rows: list[tuple[int, int, int]] = []
    for k in worst:
        points = _correct(wrong & (label_map == k), wrong & (predicted == k), rng, config)
        for y, x in points:
            if (y, x) not in taken:  # two objects may share an error region
                taken.add((y, x))
                rows.append((y, x, int(label_map[y, x])))
    return clicks.then(rows)


def robot_click(
    predicted: NDArray[Any], truth: NDArray[np.bool_], clicks: Clicks
) -> tuple[int, int, int] | None:
    """Return the next (row, column, instance) of a robot that corrects one object, or None.

    `predicted` is compared with `truth` as masks of object 1 (section 7.1, at network resolution,
    without the map of pixels clicked before).
    """
    guess = predicted == 1
    missing, extra = depth(truth & ~guess), depth(guess & ~truth)
    distance, top, left = missing if missing[0].max() > extra[0].max() else extra
    if distance.max() <= 0:
        return None
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(y) + top, int(x) + left, int(truth[int(y) + top, int(x) + left])
