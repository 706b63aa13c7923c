"""Results on disk: one line of JSON per picture, appended as soon as it is finished.

A run that was killed leaves at most one unfinished line, which is dropped on the next start.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Store the settings of a run, or check that those stored are the same.

    Raises
    ------
    DataError
        Naming the settings that differ.
    """
    wanted = json.loads(json.dumps(identity))
    if not path.exists():
        write_atomically(path, json.dumps(wanted, indent=2, sort_keys=True) + "\n")
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{str(path)!r} is damaged ({error}); choose another folder") from error
    names = sorted({*stored, *wanted})
    differing = [name for name in names if stored.get(name) != wanted.get(name)]
    if differing:
        told = "; ".join(f"{n}: {stored.get(n)!r} there, {wanted.get(n)!r} now" for n in differing)
        raise DataError(
            f"{str(path.parent)!r} holds another run ({told}). Choose another folder, or start "
            "over with --overwrite."
        )


class RecordFile:
    """Appends the results of pictures to a JSON-lines file.

    Parameters
    ----------
    path : Path
        Created with its folder if need be. An unfinished last line is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            content = path.read_bytes()
            complete = content[: content.rfind(b"\n") + 1]
            if complete != content:
                with path.open("r+b") as file:
                    file.truncate(len(complete))
        self._file = path.open("a", encoding="utf-8")

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line and hand it to the operating system."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_lines(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the finished lines of record files by picture key (the last one of a picture counts).

    Lines that are no JSON (cut off by a kill) are skipped; so are pictures that ended in an error,
    so that they are tried again.
    """
    lines: dict[str, dict[str, Any]] = {}
    for path in paths:
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and "picture" in line and "error" not in line:
                lines[line["picture"]] = line
    return lines
