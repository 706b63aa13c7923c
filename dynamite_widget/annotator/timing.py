"""Time: what was spent on a picture, breaks left out, and an honest guess of what is left."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..session import IDLE_CAP_S

WINDOW = 50
"""Pictures that the estimate looks back on: people become faster, and tired."""
FEWEST = 3
"""Finished pictures below which nothing is estimated."""
_90_PERCENT = 1.645


class StopWatch:
    """Seconds spent on a picture; a gap between two events counts at most `IDLE_CAP_S`.

    Parameters
    ----------
    seconds : float
        Spent before.
    clock : callable
        Monotonic seconds; for tests.
    """

    def __init__(self, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = seconds
        self._last = clock()

    def tick(self) -> float:
        """Count the time since the last event, and return the sum."""
        now = self._clock()
        self._seconds += min(max(0.0, now - self._last), IDLE_CAP_S)
        self._last = now
        return self._seconds


@dataclass(frozen=True)
class Estimate:
    """What is left, from the pictures finished last.

    Attributes
    ----------
    pictures : int
        Pictures that are left.
    measured : int
        Finished pictures that this was learnt from, at most `WINDOW`.
    seconds_per_instance : float or None
        None without instances.
    instances_per_picture : float
    seconds_per_picture : float
        Their product, or the mean for pictures without instances.
    seconds_left, low_s, high_s : float
        The expected time, and the limits between which it lies with about 90 % if the pictures to
        come are like those before.
    """

    pictures: int
    measured: int
    seconds_per_instance: float | None
    instances_per_picture: float
    seconds_per_picture: float
    seconds_left: float
    low_s: float
    high_s: float

    def __str__(self) -> str:
        speed = ""
        if self.seconds_per_instance is not None:
            speed = (
                f"; {self.seconds_per_instance:.0f} s per instance, "
                f"{self.instances_per_picture:.1f} per picture"
            )
        return (
            f"about {duration(self.seconds_left)} left "
            f"({duration(self.low_s)} to {duration(self.high_s)}{speed})"
        )


class Pace:
    """Seconds and instances of the pictures finished last."""

    def __init__(self, finished: Iterable[tuple[float, int]] = ()) -> None:
        self._finished: deque[tuple[float, int]] = deque(finished, maxlen=WINDOW)

    def add(self, seconds: float, instances: int) -> None:
        """Take in a picture that was just finished."""
        if seconds > 0:
            self._finished.append((seconds, instances))

    def estimate(self, pictures_left: int) -> Estimate | None:
        """Return what is left, or None while too little is known."""
        count = len(self._finished)
        if count < FEWEST:
            return None
        seconds = [s for s, _ in self._finished]
        instances = sum(n for _, n in self._finished)
        mean = sum(seconds) / count
        spread = math.sqrt(sum((s - mean) ** 2 for s in seconds) / (count - 1))
        left = pictures_left * mean
        # Two things are uncertain: the mean that was measured, and the pictures that are left.
        error = _90_PERCENT * spread * math.sqrt(pictures_left**2 / count + pictures_left)
        return Estimate(
            pictures_left,
            count,
            sum(seconds) / instances if instances else None,
            instances / count,
            mean,
            left,
            max(0.0, left - error),
            left + error,
        )


def duration(seconds: float) -> str:
    """Return a time in words: "40 s", "12 min", "3 h 20 min", "4 days"."""
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(minutes / 60 / 24)} days"
