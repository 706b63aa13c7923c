"""Which pictures, in which order: filters, search, and the way through what they leave."""

from __future__ import annotations

import fnmatch
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .index import EMPTY, Record

LOW_SCORE = 0.7
FILTERS = ("all", "todo", "done", "skipped", "flagged", "unreadable", "low score", "most doubtful")
"""Besides these, ``"class:NAME"`` shows the pictures with an instance of a class."""

_TESTS: dict[str, Callable[[Record], bool]] = {
    "todo": lambda record: record.status == "todo",
    "done": lambda record: record.status == "done",
    "skipped": lambda record: record.status == "skipped",
    "unreadable": lambda record: record.status == "unreadable",
    "flagged": lambda record: record.flagged,
    "low score": lambda record: record.score is not None and record.score < LOW_SCORE,
    "most doubtful": lambda record: bool(record.doubt),
}
_ORDERS: dict[str, Callable[[Record], float]] = {
    "low score": lambda record: record.score or 0.0,
    "most doubtful": lambda record: -(record.doubt or 0.0),
}


@dataclass(frozen=True)
class Choice:
    """A filter and a search text.

    Parameters
    ----------
    filter : str
        One of `FILTERS`, or ``"class:NAME"``.
    search : str
        Part of the name, in any case; or a pattern with ``*``.

    Raises
    ------
    ValueError
        For an unknown filter.
    """

    filter: str = "all"
    search: str = ""
    _test: Callable[[Record], bool] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.filter.startswith("class:"):
            name = self.filter.removeprefix("class:")
            object.__setattr__(self, "_test", lambda record: name in record.classes)
        elif self.filter in FILTERS:
            object.__setattr__(self, "_test", _TESTS.get(self.filter))
        else:
            raise ValueError(
                f"unknown filter {self.filter!r:.80}; filters: {', '.join(FILTERS)}, class:NAME"
            )

    def matches(self, key: str, record: Record) -> bool:
        """Tell whether a picture is among those chosen."""
        return (self._test is None or self._test(record)) and self._named(key)

    def _named(self, key: str) -> bool:
        if not self.search:
            return True
        text, name = self.search.casefold(), key.casefold()
        if "*" in text or "?" in text:
            return fnmatch.fnmatchcase(name, text)
        return text in name

    def places(self, keys: Sequence[str], records: Mapping[str, Record]) -> Sequence[int]:
        """Return the places of the pictures chosen, in the order to go through them."""
        if self._test is None and not self.search:
            return range(len(keys))
        found = [
            place for place, key in enumerate(keys) if self.matches(key, records.get(key, EMPTY))
        ]
        order = _ORDERS.get(self.filter)
        if order is not None:
            found.sort(key=lambda place: order(records.get(keys[place], EMPTY)))
        return found


class Route:
    """The way through chosen pictures: what comes after, and before, a place.

    Made once per filter; a step takes the same time whatever the number of pictures.
    """

    def __init__(self, places: Sequence[int], ordered_by_place: bool = True) -> None:
        self.places = places
        self._sorted = ordered_by_place
        self._rank = {} if ordered_by_place else {place: k for k, place in enumerate(places)}

    def __len__(self) -> int:
        return len(self.places)

    def rank(self, place: int) -> int | None:
        """Return the how-manieth of the chosen pictures this is, from 0; None if it is not one."""
        if not self._sorted:
            return self._rank.get(place)
        k = bisect_left(self.places, place)
        return k if k < len(self.places) and self.places[k] == place else None

    def step(self, place: int | None, forward: bool = True) -> int | None:
        """Return the chosen place after (or before) another; None at the end."""
        k: int | None
        if place is None:
            k = 0 if forward else len(self.places) - 1
        elif self._sorted:
            k = bisect_right(self.places, place) if forward else bisect_left(self.places, place) - 1
        else:
            rank = self._rank.get(place)
            k = (0 if forward else None) if rank is None else rank + (1 if forward else -1)
        return self.places[k] if k is not None and 0 <= k < len(self.places) else None


def make_route(choice: Choice, keys: Sequence[str], records: Mapping[str, Record]) -> Route:
    """Return the way through the pictures of a choice."""
    return Route(choice.places(keys, records), choice.filter not in _ORDERS)
