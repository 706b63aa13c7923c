"""Counts of a set, kept up to date change by change, and the pace of the work."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from .index import STATUSES, Record, Status
from .timing import WINDOW, Estimate, Pace


@dataclass(frozen=True)
class Progress:
    """How far a set is.

    Attributes
    ----------
    total, todo, done, skipped, unreadable, flagged : int
        Pictures.
    estimate : Estimate or None
        None while too few pictures are finished.
    """

    total: int
    todo: int
    done: int
    skipped: int
    unreadable: int
    flagged: int
    estimate: Estimate | None = None

    @property
    def fraction(self) -> float:
        """Part of the pictures that is dealt with, 0..1."""
        return 1.0 - self.todo / self.total if self.total else 1.0

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total} done"]
        for name in ("skipped", "unreadable", "flagged"):
            if count := getattr(self, name):
                parts.append(f"{count} {name}")
        if self.todo:
            parts.append(f"{self.todo} left")
            parts.append(
                "no estimate yet (three finished pictures are needed)"
                if self.estimate is None
                else str(self.estimate)
            )
        return " · ".join(parts)


class Counts:
    """The numbers behind `Progress`; a change of one picture takes constant time."""

    def __init__(self, total: int, records: Iterable[Record]) -> None:
        self._total = total
        self._by_status: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self._flagged = 0
        finished = []
        known = 0
        for record in records:
            known += 1
            self._by_status[record.status] += 1
            self._flagged += record.flagged
            if record.status == "done" and record.seconds > 0:
                finished.append(record)
        self._by_status["todo"] += total - known
        newest = heapq.nlargest(WINDOW, finished, key=lambda record: record.at)
        self._pace = Pace((record.seconds, record.instances) for record in reversed(newest))

    def change(self, before: Record, after: Record) -> None:
        """Take in that the record of a picture was replaced."""
        self._by_status[before.status] -= 1
        self._by_status[after.status] += 1
        self._flagged += after.flagged - before.flagged
        if after.status == "done" != before.status:
            self._pace.add(after.seconds, after.instances)

    def progress(self) -> Progress:
        """Return the present numbers."""
        count = self._by_status
        return Progress(
            self._total,
            count["todo"],
            count["done"],
            count["skipped"],
            count["unreadable"],
            self._flagged,
            self._pace.estimate(count["todo"]),
        )
