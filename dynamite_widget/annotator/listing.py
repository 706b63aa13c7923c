"""Names of the pictures of a folder: found by scanning directories; no file is opened.

Nothing is decoded and no file's status is asked for, so that 100 000 pictures take a moment.
"""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    [
        *(".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm"),
        *(".pgm", ".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    ]
)
"""Endings of files that count as pictures, in lower case."""

_NUMBERS = re.compile(r"\d+")
_WIDTH = 12


def scan(
    folder: str | os.PathLike[str],
    *,
    recursive: bool = True,
    pattern: str | None = None,
    without: Iterable[str | os.PathLike[str]] = (),
) -> list[str]:
    """List the pictures of a folder.

    Parameters
    ----------
    folder : path
    recursive : bool
        Whether to look into sub folders. Hidden ones (".name") are left out; links to folders are
        followed, each folder once.
    pattern : str, optional
        Only names that match, as ``"*.png"`` or ``"train/*"``, compared with the path below
        `folder`; with a pattern the ending does not matter.
    without : iterable of path
        Folders to leave out.

    Returns
    -------
    list of str
        Paths below `folder` with "/" between folders; numbers are sorted by value.

    Raises
    ------
    DataError
        If the folder does not exist or cannot be read.
    """
    root = os.fspath(folder)
    if not Path(root).is_dir():
        raise DataError(f"there is no folder {str(root)!r}")
    skipped = {os.path.realpath(path) for path in without}
    found = list(_walk(root, recursive, skipped))
    if pattern is None:
        names = [name for name in found if is_picture_name(name)]
    else:
        names = fnmatch.filter(found, pattern)
    names.sort()  # "img01" and "img1" are equal to the key
    names.sort(key=natural_key)
    return names


def expand(pattern: str) -> tuple[str, list[str]]:
    """List the files that a shell pattern such as ``"pictures/**/*.jpg"`` stands for.

    Returns
    -------
    folder : str
        The part before the first wildcard.
    names : list of str
        Paths below it, sorted as in `scan`.
    """
    parts = Path(pattern).expanduser().parts
    fixed = next((k for k, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    root = os.fspath(Path(*parts[:fixed])) if fixed else "."
    rest = os.fspath(Path(*parts[fixed:]))
    names = [
        name.replace(os.sep, "/")
        for name in glob.iglob(rest, root_dir=root, recursive=True)  # noqa: PTH207 - relative names
        if is_picture_name(name)
    ]
    names.sort()
    names.sort(key=natural_key)
    return root, names


def is_picture_name(name: str) -> bool:
    """Tell whether a file name has the ending of a picture."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in SUFFIXES


def natural_key(name: str) -> str:
    """Return what names are sorted by: "img2" comes before "img10"."""
    return _NUMBERS.sub(_padded, name)


def _padded(match: re.Match[str]) -> str:
    return match[0].zfill(_WIDTH)


def _walk(root: str, recursive: bool, skipped: set[str]) -> Iterator[str]:
    """Yield the files below `root`."""
    seen: set[str] = {os.path.realpath(root)}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        place = f"{root}/{below}" if below else root
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    if not entry.is_dir():
                        yield name
                    elif recursive and not entry.name.startswith("."):
                        if skipped or entry.is_symlink():
                            real = os.path.realpath(entry.path)
                            if real in skipped or (entry.is_symlink() and real in seen):
                                continue
                            seen.add(real)
                        waiting.append(name)
        except OSError as error:
            if not below:
                raise DataError(f"the folder {root!r} cannot be read: {error.strerror}") from error
            logger.warning("the folder %s is left out: %s", place, error)
