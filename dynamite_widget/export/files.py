"""Writing files so that nothing is ever half-written, and names that every file system takes.

All files of one export are first written completely under temporary names beside their targets;
only when every one is on the disk do they replace what was there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ExportError

_FORBIDDEN = '<>:"/\\|?*'
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{n}{i}" for n in ("COM", "LPT") for i in range(1, 10))}
_MAX_STEM_BYTES = 120
_HINTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long",
}


@dataclass(frozen=True)
class OutputFile:
    """One file of an export: path, content, and whether a merge may replace it."""

    path: Path
    data: bytes
    shared: bool = False  # made from the old file, such as a list of classes


def write_files(files: Iterable[OutputFile], *, overwrite: bool = False) -> list[Path]:
    """Write all files, or none of them.

    Parameters
    ----------
    files : iterable of OutputFile
        May be a generator: content is written as it comes and not kept.
    overwrite : bool
        Whether existing files may be replaced; files marked `shared` always are.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ExportError
        If a file exists, or cannot be written; every old file is intact then.
    """
    staged: list[tuple[Path, Path]] = []
    folders: list[Path] = []
    target = Path()
    try:
        for file in files:
            target = file.path
            if target.is_dir():
                raise ExportError(f"{str(target)!r} is a folder")
            if not (overwrite or file.shared):
                refuse_existing(target)
            folders.extend(_make_folders(target.parent))
            staged.append((_stage(target, file.data), target))
        for temporary, target in staged:
            temporary.replace(target)
        for folder in {target.parent for _, target in staged}:
            _sync_folder(folder)
    except BaseException as error:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        for folder in reversed(folders):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise ExportError(describe(error, target)) from error
        raise
    return [target for _, target in staged]


def refuse_existing(path: Path) -> None:
    """Raise ExportError if there is a file already."""
    if path.is_file():
        raise ExportError(
            f"{str(path)!r} exists; overwrite=True (--overwrite) replaces it, merge=True (--merge) "
            "adds to it"
        )


def describe(error: OSError, path: Path, verb: str = "write") -> str:
    """Say in one line what went wrong with a file."""
    reason = _HINTS.get(error.errno or 0) or error.strerror or str(error)
    return f"cannot {verb} {str(path)!r}: {reason}"


def read_bytes(path: Path) -> bytes:
    """Read a file; ExportError naming it if that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportError(describe(error, path, "read")) from error


def file_stem(name: str) -> str:
    """Return a file name without ending that every file system takes, from a picture's name.

    Letters of any script stay; separators and control characters become underscores.
    """
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem = base.rsplit(".", 1)[0] if "." in base.lstrip(".") else base
    stem = clean(stem)
    return stem or "picture"


def clean(text: str) -> str:
    """Return `text` without characters that file names cannot have, and not too long."""
    text = text.encode("utf-8", "replace").decode()
    kept = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in text)
    kept = kept.strip(" .")
    while len(kept.encode()) > _MAX_STEM_BYTES:
        kept = kept[:-1]
    return f"{kept}_" if kept.split(".")[0].upper() in _RESERVED else kept


def unique_stems(names: Iterable[str]) -> Iterator[str]:
    """Yield `file_stem` of each name; one that was there before (a.jpg, a.png) gets a number."""
    # Case is ignored: some file systems do.
    seen: set[str] = set()
    for name in names:
        stem = candidate = file_stem(name)
        number = 2
        while candidate.casefold() in seen:
            candidate = f"{stem}_{number}"
            number += 1
        seen.add(candidate.casefold())
        yield candidate


def _stage(target: Path, data: bytes) -> Path:
    """Write `data` under a temporary name beside `target`, down to the disk."""
    handle, name = tempfile.mkstemp(prefix=".dynamite-", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; give this one the mode an ordinary new file would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~mask)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return temporary


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder with its parents and return those that were not there."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    made = missing[::-1]
    for path in made:
        path.mkdir(exist_ok=True)
    return made


def _sync_folder(folder: Path) -> None:
    """Bring the renames to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
