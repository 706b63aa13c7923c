"""Which object is corrected next (multi-instance protocol); where to click is up to the robot."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

STRATEGIES = ("best", "random", "worst", "wlb", "round_robin", "max_dt")
"""Names of all published next-click strategies."""


class ObjectChooser(Protocol):
    """Chooses the object to correct; one chooser per picture."""

    def choose(self, ious: Mapping[int, float], open_objects: Collection[int]) -> int:
        """Return one of `open_objects` (instances not yet good enough, never empty)."""
        ...


class BestFirst:
    """The unsatisfied object with the highest IoU."""

    def choose(self, ious: Mapping[int, float], open_objects: Collection[int]) -> int:
        """Return the open object of highest IoU, the first on ties."""
        return max(sorted(open_objects), key=lambda instance: _number(ious[instance]))


class WorstFirst:
    """The unsatisfied object with the lowest IoU."""

    def choose(self, ious: Mapping[int, float], open_objects: Collection[int]) -> int:
        """Return the open object of lowest IoU, the first on ties."""
        return min(sorted(open_objects), key=lambda instance: _number(ious[instance]))


class RandomOrder:
    """A random unsatisfied object: a persistent list is shuffled in place before every choice."""

    def __init__(self, objects: int, rng: random.Random) -> None:
        self._order = list(range(1, objects + 1))
        self._rng = rng

    def choose(self, ious: Mapping[int, float], open_objects: Collection[int]) -> int:
        """Return the first open object of the freshly shuffled list."""
        self._rng.shuffle(self._order)
        return next(instance for instance in self._order if instance in open_objects)


class WorstWithLimit:
    """Lowest IoU among objects with few requested clicks; highest once all have had their share."""

    def __init__(self, objects: int, limit: int) -> None:
        self._requested = dict.fromkeys(range(1, objects + 1), 1)  # the initial click counts
        self._limit = limit

    def choose(self, ious: Mapping[int, float], open_objects: Collection[int]) -> int:
        """Return the worst open object below the limit, else the best open one."""
        below = [instance for instance in open_objects if self._requested[instance] < self._limit]
        if below:
            chosen = WorstFirst().choose(ious, below)
        else:
            chosen = BestFirst().choose(ious, open_objects)
        self._requested[chosen] += 1
        return chosen


class RoundRobin:
    """Correct one object until it is good or has had its consecutive clicks, then another."""

    def __init__(self, objects: int, limit: int, rng: random.Random) -> None:
        self._order = list(range(1, objects + 1))
        self._clicks = dict.fromkeys(self._order, 1)  # the initial click counts
        self._limit = limit
        self._rng = rng
        self._current: int | None = None

    def choose(self, ious: Mapping[int, float], open_objects: Collection[int]) -> int:
        """Return the current object while it may go on, else the first open one after a shuffle."""
        if all(self._clicks[instance] >= self._limit for instance in open_objects):
            self._clicks = dict.fromkeys(self._order, 0)
            self._current = None
        current = self._current
        if current is not None and current in open_objects and self._clicks[current] < self._limit:
            self._clicks[current] += 1
            return current
        self._rng.shuffle(self._order)
        chosen = next(
            instance
            for instance in self._order
            if instance in open_objects and self._clicks[instance] < self._limit
        )
        count = self._clicks[chosen] + 1
        self._clicks = dict.fromkeys(self._order, 0)
        self._clicks[chosen] = count
        self._current = chosen
        return chosen


def make_chooser(
    strategy: str, objects: int, clicks_per_object: int, rng: random.Random
) -> ObjectChooser | None:
    """Return the chooser of a strategy, None for "max_dt" (which chooses no object).

    Parameters
    ----------
    strategy : one of `STRATEGIES`
    objects : int
        Number of objects of the picture; instances are 1 … objects.
    clicks_per_object : int
        The limit of "wlb" and "round_robin".
    rng : random.Random
        Used by "random" and "round_robin"; may be shared by all pictures of a run.

    Raises
    ------
    ValueError
        For an unknown strategy.
    """
    if strategy == "best":
        return BestFirst()
    if strategy == "worst":
        return WorstFirst()
    if strategy == "random":
        return RandomOrder(objects, rng)
    if strategy == "wlb":
        return WorstWithLimit(objects, clicks_per_object)
    if strategy == "round_robin":
        return RoundRobin(objects, clicks_per_object, rng)
    if strategy == "max_dt":
        return None
    raise ValueError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}")


def reference_random(seed: int = 0) -> random.Random:
    """Return the generator of the published runs (seeded once per run, shared by all pictures)."""
    return random.Random(123456 + seed)


def picture_random(seed: int, key: str) -> random.Random:
    """Return a generator of one picture: independent of the order and number of processes."""
    return random.Random(f"dynamite-evaluation:{seed}:{key}")


def _number(iou: float) -> float:
    """Map NaN (nothing there, nothing predicted) to 0, so that comparisons stay ordered."""
    return iou if iou == iou else 0.0


def open_instances(
    ious: Mapping[int, float], threshold: float, exhausted: Collection[int] = ()
) -> Sequence[int]:
    """Return the instances whose IoU is below the threshold and that can still be clicked."""
    return [k for k, value in ious.items() if not value >= threshold and k not in exhausted]
