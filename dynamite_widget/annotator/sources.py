"""Where pictures come from: a folder, a shell pattern, a list, a mapping, or a COCO file.

A source knows the keys of its pictures, in order, and what `load_image` takes for each. Nothing is
opened before it is asked for. A key is also the picture's name in sessions and exports.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..errors import DataError, ExportError
from ..session import ClickSession
from .listing import expand, scan


class Source(Protocol):
    """An ordered set of pictures."""

    @property
    def keys(self) -> Sequence[str]:
        """Unique names, in order."""

    def image(self, key: str) -> Any:
        """Return what `load_image` takes."""

    def session(self, key: str) -> ClickSession | None:
        """Return the session to start from, if the source has annotations."""

    def coco(self) -> Mapping[str, Any] | None:
        """Return the COCO content that the annotations belong to, if any."""


class FolderSource:
    """Pictures below a folder; the keys are their paths below it, with "/"."""

    def __init__(self, root: str | os.PathLike[str], names: Sequence[str]) -> None:
        self.root = os.fspath(root)
        self.keys: Sequence[str] = names

    def image(self, key: str) -> str:
        """Return the path of a picture."""
        return f"{self.root}/{key}"

    def session(self, key: str) -> ClickSession | None:
        """Return None: there are no annotations yet."""
        return None

    def coco(self) -> Mapping[str, Any] | None:
        """Return None."""
        return None


class MappingSource:
    """Pictures by name: paths, arrays, anything that `load_image` takes."""

    def __init__(self, pictures: Mapping[str, Any]) -> None:
        self._pictures = dict(pictures)
        self.keys: Sequence[str] = tuple(self._pictures)

    def image(self, key: str) -> Any:
        """Return the path, array, … of a picture."""
        return self._pictures[key]

    def session(self, key: str) -> ClickSession | None:
        """Return None: there are no annotations yet."""
        return None

    def coco(self) -> Mapping[str, Any] | None:
        """Return None."""
        return None


class CocoSource:
    """The pictures of a COCO file with their annotations, to be refined.

    The JSON is read once; masks are decoded when a picture is opened.

    Parameters
    ----------
    path : Path
    images : path, optional
        Folder that the file names are below; by default the folder of the file.
    """

    def __init__(self, path: Path, images: str | os.PathLike[str] | None = None) -> None:
        from ..export.coco import load_json

        self._path = path
        self._root = path.parent if images is None else Path(images)
        content = load_json(path)
        if not isinstance(content, Mapping) or not all(
            isinstance(content.get(part), list) for part in ("images", "annotations")
        ):
            raise DataError(f"{str(path)!r} is no COCO file: it needs 'images' and 'annotations'")
        self._content = content
        self._entries: dict[str, Mapping[str, Any]] = {}
        for entry in content["images"]:
            if isinstance(entry, Mapping) and isinstance(entry.get("file_name"), str):
                self._entries.setdefault(entry["file_name"], entry)
        self._records: dict[Any, list[Any]] = {}
        for record in content["annotations"]:
            if isinstance(record, Mapping):
                self._records.setdefault(record.get("image_id"), []).append(record)
        self.keys: Sequence[str] = tuple(self._entries)

    def image(self, key: str) -> Path:
        """Return the path of a picture, also where the file is in a flat copy of the folder."""
        whole = self._root / key
        flat = self._root / Path(key).name
        return whole if whole.exists() or not flat.exists() else flat

    def session(self, key: str) -> ClickSession | None:
        """Return a session in which the masks of the file are fixed until they are edited."""
        from ..importing.coco import from_content

        entry = self._entries[key]
        part = {
            "images": [entry],
            "annotations": self._records.get(entry.get("id"), []),
            "categories": self._content.get("categories", []),
        }
        pictures = tuple(from_content(part, self._path))
        return pictures[0].to_session() if pictures else None

    def coco(self) -> Mapping[str, Any]:
        """Return the content of the file."""
        return self._content


def open_source(
    source: Any,
    *,
    images: str | os.PathLike[str] | None = None,
    recursive: bool = True,
    pattern: str | None = None,
    without: Iterable[str | os.PathLike[str]] = (),
) -> Source:
    """Make a source of whatever a person gives.

    Parameters
    ----------
    source : object
        Folder, shell pattern (``"pictures/**/*.jpg"``), picture file, COCO file (``.json``,
        ``.json.gz``), mapping from names to pictures, or an iterable of paths, arrays or PIL
        images. Arrays get numbers for names.
    images : path, optional
        Folder of the pictures of a COCO file.
    recursive, pattern, without
        Of a folder; see `listing.scan`.

    Raises
    ------
    DataError
        If there is no such source.
    """
    if all(hasattr(source, name) for name in ("keys", "image", "session", "coco")):
        given: Source = source
        return given
    if isinstance(source, Mapping):
        return MappingSource({str(name): picture for name, picture in source.items()})
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), images, recursive, pattern, without)
    if isinstance(source, Iterable) and not hasattr(source, "shape"):
        return MappingSource(_named(source))
    raise DataError(
        "a source is a folder, a pattern like 'pictures/*.jpg', a COCO file, a mapping from names "
        f"to pictures, or a list of paths and arrays; got {type(source).__name__}"
    )


def _open_path(
    text: str,
    images: str | os.PathLike[str] | None,
    recursive: bool,
    pattern: str | None,
    without: Iterable[str | os.PathLike[str]],
) -> Source:
    path = Path(text).expanduser()
    if path.is_dir():
        return FolderSource(path, scan(path, recursive=recursive, pattern=pattern, without=without))
    if path.is_file():
        if path.name.lower().endswith((".json", ".json.gz")):
            try:
                return CocoSource(path, images)
            except ExportError as error:
                raise DataError(str(error)) from error
        return MappingSource({path.name: path})
    if glob.has_magic(text):
        root, names = expand(text)
        return FolderSource(root, names)
    raise DataError(f"there is no file or folder {text!r} (current folder: {Path.cwd()})")


def _named(pictures: Iterable[Any]) -> dict[str, Any]:
    """Name pictures: paths by what tells them apart, everything else by its place."""
    items = list(pictures)
    places = {k: os.fspath(p) for k, p in enumerate(items) if isinstance(p, (str, os.PathLike))}
    files = {k: Path.cwd() / Path(path).expanduser() for k, path in places.items()}
    parents = {os.fspath(path.parent) for path in files.values()}
    root = os.path.commonpath(parents) if parents else ""
    named: dict[str, Any] = {}
    for number, item in enumerate(items):
        if number in files:
            name = files[number].relative_to(root).as_posix()
        else:
            name = f"picture-{number + 1:05}"
        if name in named:
            raise DataError(f"the picture {name!r} is in the list twice")
        named[name] = item
    return named
