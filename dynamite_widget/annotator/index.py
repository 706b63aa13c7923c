"""The state of every picture in one append-only file, so that no session has to be opened for it.

One JSON object per line; the newest line of a picture counts. A line that a killed process left
unfinished is cut off when the file is opened for writing.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import SessionError
from ..session_json import write_atomically

logger = logging.getLogger(__name__)

Status = Literal["todo", "done", "skipped", "unreadable"]
STATUSES: tuple[Status, ...] = get_args(Status)
NAME = "index.jsonl"
_FORMAT = "dynamite-index"
_VERSION = 1
_SPARE_LINES = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a picture without opening it.

    Parameters
    ----------
    status : {"todo", "done", "skipped", "unreadable"}
    flagged : bool
        Marked by a person for a second look.
    note : str
        Of a person; for unreadable pictures the reason.
    instances, clicks : int
    classes : tuple of str
        Of the instances, each once.
    seconds : float
        Time spent on the picture, looking included; breaks are not.
    score : float or None
        Of the instance with the lowest, 0..1; None when unknown.
    doubt : float or None
        Part of the picture where the network hesitates, 0..1.
    at : float
        When it was last changed or marked, in seconds since 1970.
    """

    status: Status = "todo"
    flagged: bool = False
    note: str = ""
    instances: int = 0
    clicks: int = 0
    classes: tuple[str, ...] = ()
    seconds: float = 0.0
    score: float | None = None
    doubt: float | None = None
    at: float = 0.0

    def changed(self, **values: Any) -> Record:
        """Return a record with other values."""
        return replace(self, **values)


EMPTY = Record()
_DEFAULTS = {field.name: field.default for field in fields(Record)}


def to_fields(record: Record) -> dict[str, Any]:
    """Return plain data; what has its default value is left out."""
    values = {name: getattr(record, name) for name in _DEFAULTS}
    return {name: value for name, value in values.items() if value != _DEFAULTS[name]}


def from_fields(values: Mapping[str, Any]) -> Record:
    """Rebuild a record.

    Raises
    ------
    SessionError
        If a value is of the wrong kind.
    """
    status = values.get("status", "todo")
    note, classes = values.get("note", ""), values.get("classes", ())
    numbers = [values.get(name, 0) for name in ("instances", "clicks", "seconds", "at")]
    maybe = [values.get(name) for name in ("score", "doubt")]
    numbers += [value for value in maybe if value is not None]
    if (
        status not in STATUSES
        or type(note) is not str
        or not isinstance(classes, (list, tuple))
        or not all(type(name) is str for name in classes)
        or not all(type(v) in (int, float) and math.isfinite(v) for v in numbers)
    ):
        raise SessionError(f"this is no record of a picture: {values!r:.120}")
    return Record(
        status,
        bool(values.get("flagged", False)),
        note,
        int(numbers[0]),
        int(numbers[1]),
        tuple(classes),
        numbers[2],
        maybe[0],
        maybe[1],
        numbers[3],
    )


class Index:
    """The records of an output folder. Not thread-safe: one owner at a time.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    writable : bool
        Whether it may be repaired and appended to.

    Attributes
    ----------
    records : dict from key to Record
    current : str
        The picture that was open last; "" for none.
    unmerged : dict from key to None
        Pictures that changed since the last `note_merged`, in order.
    """

    def __init__(self, path: Path, writable: bool) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        self.current = ""
        self.unmerged: dict[str, None] = {}
        self._file: Any = None
        lines, whole = self._read()
        if writable:
            self._open(lines, whole)

    # -- writing ---------------------------------------------------------------------------------

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Write lines and bring them to the disk; OSError if that fails."""
        data = b"".join(_line(entry) for entry in entries)
        if self._file is None:
            raise SessionError("the index is open for reading only")
        start = self._file.tell()
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError:
            # A full disk may have taken half a line; the next one shall begin on its own.
            self._file.truncate(start)
            self._file.seek(start)
            raise

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- reading ---------------------------------------------------------------------------------

    def _read(self) -> tuple[int, int]:
        """Take the lines in; return their number, and the bytes up to the last whole one."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return 0, 0
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        for number, line in enumerate(lines, 1):
            try:
                self._take(json.loads(line))
            except (ValueError, AttributeError, TypeError) as error:
                if isinstance(error, SessionError) and "newer" in str(error):
                    raise
                logger.warning("%s, line %d is left out: %s", self.path, number, error)
        return len(lines), whole

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "key" in entry:
            key = entry["key"]
            if type(key) is not str:
                raise SessionError(f"a key is a string, got {key!r:.80}")
            self.records[key] = from_fields(entry)
            self.unmerged[key] = None
        elif "current" in entry:
            self.current = str(entry["current"])
        elif "merged" in entry:
            self.unmerged.clear()
        elif entry.get("format") == _FORMAT:
            if entry.get("version", 0) > _VERSION:
                raise SessionError(
                    f"{self.path} has version {entry['version']!r}, written by a newer "
                    f"dynamite-widget; this one reads up to {_VERSION}"
                )
        else:
            raise SessionError(f"unknown line {entry!r:.80}")

    def _open(self, lines: int, whole: int) -> None:
        if lines == 0 or lines > 2 * len(self.records) + _SPARE_LINES:
            write_atomically(self.path, b"".join(_line(entry) for entry in self._entries()))
        elif whole < self.path.stat().st_size:
            logger.warning("%s: an unfinished last line was cut off", self.path)
            os.truncate(self.path, whole)
        self._file = self.path.open("r+b", buffering=0)
        self._file.seek(0, os.SEEK_END)

    def _entries(self) -> Iterable[dict[str, Any]]:
        """Yield the lines that say the same as all lines so far."""
        yield {"format": _FORMAT, "version": _VERSION}
        merged = [key for key in self.records if key not in self.unmerged]
        for key in merged:
            yield record_entry(key, self.records[key])
        yield {"merged": len(merged)}
        for key in self.unmerged:
            yield record_entry(key, self.records[key])
        yield {"current": self.current}


def record_entry(key: str, record: Record) -> dict[str, Any]:
    """Return the line of a picture."""
    return {"key": key, **to_fields(record)}


def _line(entry: Mapping[str, Any]) -> bytes:
    # ASCII: file names may hold bytes that are no Unicode.
    return json.dumps(entry, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
