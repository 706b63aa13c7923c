"""The state of every picture in one append-only file, so that no session has to be opened for it.

One JSON object per line; the newest line of a picture counts. A line that a killed process left
unfinished is cut off when the file is opened for writing.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
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
_KINDS: dict[str, tuple[type, ...]] = {
    "status": (str,),
    "flagged": (bool,),
    "note": (str,),
    "instances": (int,),
    "clicks": (int,),
    "classes": (tuple, list),
    "seconds": (int, float),
    "score": (int, float, NoneType),
    "doubt": (int, float, NoneType),
    "at": (int, float),
}
_shared: dict[tuple[str, ...], tuple[str, ...]] = {}
"""One tuple for all pictures with the same classes."""


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
    given: dict[str, Any] = {}
    for name, value in values.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            continue  # the key, or a field of a newer version
        if type(value) not in kinds or (type(value) is float and not math.isfinite(value)):
            raise SessionError(f"this is no record of a picture: {name} = {value!r:.80}")
        given[name] = value
    if "classes" in given:
        classes = tuple(given["classes"])
        if not all(type(name) is str for name in classes):
            raise SessionError(f"class names are strings, got {classes!r:.120}")
        given["classes"] = _shared.setdefault(classes, classes)
    if given.get("status", "todo") not in STATUSES:
        raise SessionError(f"unknown status {given['status']!r:.80}")
    return Record(**given)


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
        # A hundred thousand new objects would have the collector look at all of them repeatedly.
        collecting = gc.isenabled()
        gc.disable()
        try:
            lines, whole = self._read()
        finally:
            if collecting:
                gc.enable()
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
        try:
            # One call is several times faster than one for each line.
            entries: list[Any] = json.loads(b"[" + b",".join(lines) + b"]")
        except ValueError:
            entries = list(lines)
        for number, entry in enumerate(entries, 1):
            try:
                self._take(json.loads(entry) if isinstance(entry, bytes) else entry)
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
