"""What an annotation cost: seconds, clicks and edits per instance, per class, over time."""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..export.sessions import edits_per_instance
from ..session_json import write_atomically
from .store import AnnotationStore


@dataclass(frozen=True)
class InstanceRow:
    """One instance. `seconds` is the time from the edit before to its own edits, breaks cut."""

    picture: str
    status: str
    id: int
    class_name: str
    seconds: float
    clicks: int
    background_clicks: int
    edits: int
    at: float


@dataclass(frozen=True)
class ClassRow:
    """Means over the instances of a class."""

    class_name: str
    instances: int
    seconds: float
    clicks: float
    edits: float


@dataclass(frozen=True)
class PictureRow:
    """One picture that was dealt with; `at` is when, in seconds since 1970."""

    picture: str
    status: str
    instances: int
    clicks: int
    seconds: float
    at: float


@dataclass(frozen=True)
class Statistics:
    """All rows of a set.

    Attributes
    ----------
    instances : tuple of InstanceRow
    pictures : tuple of PictureRow
        In the order in which they were last changed.
    """

    instances: tuple[InstanceRow, ...]
    pictures: tuple[PictureRow, ...]

    @property
    def classes(self) -> tuple[ClassRow, ...]:
        """Means per class, the most frequent first."""
        groups: dict[str, list[InstanceRow]] = {}
        for row in self.instances:
            groups.setdefault(row.class_name, []).append(row)
        made = [
            ClassRow(
                name,
                len(rows),
                _mean(row.seconds for row in rows),
                _mean(row.clicks for row in rows),
                _mean(row.edits for row in rows),
            )
            for name, rows in groups.items()
        ]
        return tuple(sorted(made, key=lambda row: (-row.instances, row.class_name)))

    @property
    def summary(self) -> dict[str, float]:
        """Means over all instances, and sums."""
        rows = self.instances
        return {
            "pictures": len(self.pictures),
            "instances": len(rows),
            "seconds": round(sum(picture.seconds for picture in self.pictures), 1),
            "seconds per instance": _mean(row.seconds for row in rows),
            "median seconds per instance": float(np.median([r.seconds for r in rows]))
            if rows
            else 0.0,
            "clicks per instance": _mean(row.clicks for row in rows),
            "edits per instance": _mean(row.edits for row in rows),
        }

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per instance."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(InstanceRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.instances)
        write_atomically(Path(path), text.getvalue().encode("utf-8", "replace"))

    def to_dataframe(self) -> Any:
        """Return one row per instance (needs pandas)."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise DataError("a data frame needs pandas (pip install pandas)") from error
        return pandas.DataFrame(
            [asdict(row) for row in self.instances],
            columns=[field.name for field in fields(InstanceRow)],
        )


def statistics(output: AnnotationStore | str | os.PathLike[str]) -> Statistics:
    """Read what the sessions of an output folder tell of the work.

    Parameters
    ----------
    output : AnnotationStore or path
    """
    if isinstance(output, AnnotationStore):
        store = output
    else:
        if not Path(output).is_dir():
            raise DataError(f"there is no folder {os.fspath(output)!r}")
        store = AnnotationStore(output, read_only=True)
    instances: list[InstanceRow] = []
    pictures: list[PictureRow] = []
    for key, record in sorted(store.items(), key=lambda entry: entry[1].at):
        if record.status in ("done", "skipped") or record.instances:
            pictures.append(
                PictureRow(
                    key, record.status, record.instances, record.clicks, record.seconds, record.at
                )
            )
        if not record.instances or record.status == "unreadable":
            continue
        session = store.load_session(key)
        if session is None:
            continue
        edits = edits_per_instance(session)
        background = len(session.state.clicks_of(0))
        instances.extend(
            InstanceRow(
                key,
                record.status,
                instance.id,
                instance.class_name,
                round(session.seconds_spent.get(instance.id, 0.0), 3),
                len(session.state.clicks_of(instance.id)),
                background,
                edits.get(instance.id, 0),
                record.at,
            )
            for instance in session.state.instances
        )
    return Statistics(tuple(instances), tuple(pictures))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return round(float(np.mean(numbers)), 3) if numbers else 0.0
