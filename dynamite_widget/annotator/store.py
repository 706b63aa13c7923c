"""The output folder: one session file per picture, the index, the merged COCO file, the lock.

```
output/
  sessions/NAME-HASH.json   a session per picture, as `widget.save` writes it
  index.jsonl               the state of each picture, see `index`
  annotations.json          everything as COCO, see `merge`
  opened.json, lock         who writes here
```
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, SessionError
from ..export.files import file_stem
from ..session import ClickSession
from ..session_json import write_atomically
from .index import EMPTY, NAME, Index, Record, from_fields, record_entry, to_fields

logger = logging.getLogger(__name__)

META = "annotator"
"""Key of a session's meta under which its record is kept, too."""
MERGED_NAME = "annotations.json"
_TEMPORARY = re.compile(r"\.[^/]*\.json\.[^./]+")


class AnnotationStore:
    """The files of an annotated set. Methods may be called from any thread.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    read_only : bool
        Open without the lock, and write nothing.

    Attributes
    ----------
    folder : Path
    read_only : bool
        Also True when somebody else has the folder open, or it cannot be written to.
    read_only_reason : str
        Why, for a person.

    Raises
    ------
    DataError
        If the folder cannot be made or read.
    """

    def __init__(self, folder: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.folder = Path(folder).expanduser()
        self.read_only = read_only
        self.read_only_reason = "opened read only" if read_only else ""
        self._mutex = threading.RLock()
        self._lock: Any = None
        if not read_only:
            self._take_lock()
        self._writing = not self.read_only
        fresh = not (self.folder / NAME).exists()
        try:
            self._index = Index(self.folder / NAME, self._writing)
            if fresh:
                self._rebuild()
        except OSError as error:
            self.close()
            raise DataError(f"cannot use the folder {str(self.folder)!r}: {error}") from error
        except BaseException:
            self.close()
            raise

    # -- records ---------------------------------------------------------------------------------

    def record(self, key: str) -> Record:
        """Return what is known of a picture."""
        return self._index.records.get(key, EMPTY)

    @property
    def records(self) -> Mapping[str, Record]:
        """All pictures that something is known of."""
        return self._index.records

    def items(self) -> list[tuple[str, Record]]:
        """Return a copy of `records`, for loops while others write."""
        with self._mutex:
            return list(self._index.records.items())

    def set_record(self, key: str, record: Record) -> None:
        """Change a record in memory; `write` brings it to the disk."""
        with self._mutex:
            self._index.records[key] = record
            self._index.unmerged[key] = None

    def update(self, key: str, **values: Any) -> Record:
        """Change some values of a record in memory and return it."""
        with self._mutex:
            record = self.record(key).changed(**values)
            self.set_record(key, record)
            return record

    @property
    def current(self) -> str:
        """The picture that was open last; "" for none."""
        return self._index.current

    @current.setter
    def current(self, key: str) -> None:
        self._index.current = key

    @property
    def unmerged(self) -> tuple[str, ...]:
        """Pictures that changed since the merged file was written."""
        with self._mutex:
            return tuple(self._index.unmerged)

    def note_merged(self, keys: Iterable[str]) -> None:
        """Remember that the merged file has the present state of these pictures."""
        with self._mutex:
            for key in keys:
                self._index.unmerged.pop(key, None)
            left = list(self._index.unmerged)
            lines: list[Mapping[str, Any]] = [{"merged": len(self._index.records) - len(left)}]
            lines += [record_entry(key, self.record(key)) for key in left]
            self._index.append(lines)

    # -- files -----------------------------------------------------------------------------------

    @property
    def sessions(self) -> Path:
        """Folder of the session files."""
        return self.folder / "sessions"

    @property
    def merged_path(self) -> Path:
        """The merged COCO file."""
        return self.folder / MERGED_NAME

    def session_path(self, key: str) -> Path:
        """Return the file of a picture's session, whether it exists or not."""
        # The hash keeps a/1.jpg and b/1.jpg apart, and does not depend on other pictures.
        digest = hashlib.blake2s(key.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
        return self.sessions / f"{file_stem(key)}-{digest}.json"

    def load_session(self, key: str) -> ClickSession | None:
        """Read the session of a picture; None if there is none.

        Raises
        ------
        SessionError
            If the file is damaged or cannot be read.
        """
        path = self.session_path(key)
        try:
            return ClickSession.load(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SessionError(f"{path} cannot be read: {error.strerror}") from error

    def set_aside(self, key: str) -> Path:
        """Rename a session file that cannot be used, so that a new one does not replace it."""
        path = self.session_path(key)
        number = 1
        while (aside := path.with_name(f"{path.name}.unusable-{number}")).exists():
            number += 1
        path.replace(aside)
        return aside

    def write(
        self, sessions: Mapping[str, ClickSession], keys: Iterable[str], current: str | None
    ) -> dict[str, SessionError]:
        """Bring sessions, then the records of `keys`, then the current picture to the disk.

        Returns
        -------
        dict
            Sessions that have no file form (their meta does not fit JSON), with the reason.

        Raises
        ------
        OSError
            If that fails; what was written is whole, and doing it again does no harm.
        """
        if not self._writing:
            raise SessionError(f"{self.folder} is read only: {self.read_only_reason}")
        refused: dict[str, SessionError] = {}
        for key, session in sessions.items():
            meta = {"key": key, **to_fields(self.record(key))}
            session.meta[META] = meta
            path = self.session_path(key)
            try:
                data = session.to_json().encode()
            except SessionError as error:
                refused[key] = error
                continue
            try:
                write_atomically(path, data)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, data)
        with self._mutex:
            lines: list[Mapping[str, Any]] = [record_entry(key, self.record(key)) for key in keys]
            if current is not None:
                lines.append({"current": current})
            if lines:
                self._index.append(lines)
        return refused

    def remove_leftovers(self) -> int:
        """Delete temporary files that a killed process left; return their number."""
        count = 0
        for folder in (self.folder, self.sessions):
            if not self._writing or not folder.is_dir():
                continue
            for name in [entry.name for entry in os.scandir(folder) if entry.name[0] == "."]:
                if _TEMPORARY.fullmatch(name) or name.startswith(f".{NAME}."):
                    (folder / name).unlink(missing_ok=True)
                    count += 1
        return count

    def close(self) -> None:
        """Close the files and give the lock back."""
        with self._mutex:
            self._writing = False
            index = getattr(self, "_index", None)
            if index is not None:
                index.close()
            if self._lock is not None:
                (self.folder / "opened.json").unlink(missing_ok=True)
                self._lock.release()
                self._lock = None

    # -- inside ----------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        """Make the folder ours, or open it read only."""
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder {str(self.folder)!r}: {error}") from error
        lock = FileLock(self.folder / "lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._refuse(f"it is open in another kernel ({self._holder()})")
            return
        except NotImplementedError:
            logger.warning(
                "%s: this file system has no locks; open the folder in one kernel only", self.folder
            )
        except OSError as error:
            self._refuse(f"it cannot be written to ({error.strerror})")
            return
        self._lock = lock
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        # A courtesy to whoever comes second; the lock itself is what counts.
        (self.folder / "opened.json").write_text(json.dumps(holder), encoding="ascii")

    def _refuse(self, reason: str) -> None:
        self.read_only = True
        self.read_only_reason = reason
        logger.warning("%s is opened read only: %s", self.folder, reason)

    def _holder(self) -> str:
        try:
            holder = json.loads((self.folder / "opened.json").read_bytes())
            return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
        except (OSError, ValueError, TypeError, KeyError):
            return "which has just opened it"

    def _rebuild(self) -> None:
        """Make the index anew from the sessions, if somebody deleted it."""
        found: dict[str, Record] = {}
        for path in sorted(self.sessions.glob("*.json")) if self.sessions.is_dir() else ():
            try:
                meta = json.loads(path.read_bytes())["meta"][META]
                found[str(meta["key"])] = from_fields(meta)
            except (OSError, ValueError, TypeError, KeyError, SessionError) as error:
                logger.warning("%s tells nothing of its picture: %s", path, error)
        if not found:
            return
        logger.warning("%s is missing; made anew from %d sessions", NAME, len(found))
        for key, record in found.items():
            self.set_record(key, record)
        if self._writing:
            self._index.append(record_entry(key, record) for key, record in found.items())
