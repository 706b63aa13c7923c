"""Where training pictures come from: folders and uncompressed tar files, read without unpacking.

Only bytes are handed out here; decoding and annotations live in `dynamite_widget.training.data`.
"""

from __future__ import annotations

import mmap
import tarfile
from collections.abc import Iterable
from pathlib import Path

from dynamite_widget.errors import DataError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class PictureStore:
    """Encoded pictures by file name, from folders and tar files.

    A name is looked up as given, then by its last path component, so that annotations which say
    ``train2017/000000000009.jpg`` find a flat folder and the other way round.

    Parameters
    ----------
    locations : iterable of path
        Folders (searched recursively, tar files in them included) and single tar files.

    Raises
    ------
    DataError
        If a location does not exist or a tar file is damaged.
    """

    def __init__(self, locations: Iterable[str | Path]) -> None:
        self._files: dict[str, Path] = {}
        self._members: dict[str, tuple[int, int, int]] = {}
        self._tars: list[Path] = []
        self._maps: dict[int, mmap.mmap] = {}
        for location in locations:
            path = Path(location)
            if path.is_dir():
                for entry in sorted(path.rglob("*")):
                    if entry.suffix.lower() in _SUFFIXES:
                        self._files.setdefault(entry.relative_to(path).as_posix(), entry)
                        self._files.setdefault(entry.name, entry)
                    elif entry.suffix.lower() == ".tar":
                        self._index_tar(entry)
            elif path.suffix.lower() == ".tar" and path.is_file():
                self._index_tar(path)
            else:
                raise DataError(f"no folder or tar file of pictures at {str(path)!r}")

    def _index_tar(self, path: Path) -> None:
        number = len(self._tars)
        self._tars.append(path)
        try:
            # mode "r:" refuses compressed tars, whose members have no usable offsets
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in _SUFFIXES:
                        where = (number, member.offset_data, member.size)
                        self._members.setdefault(member.name, where)
                        self._members.setdefault(Path(member.name).name, where)
        except (tarfile.TarError, OSError) as error:
            raise DataError(f"cannot read tar file {str(path)!r}: {error}") from error

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __len__(self) -> int:
        return len(set(self._files.values())) + len(set(self._members.values()))

    def __getstate__(self) -> dict[str, object]:
        # maps of files cannot be pickled to a spawned worker; they are opened again on use
        return {**self.__dict__, "_maps": {}}

    def _find(self, name: str) -> Path | tuple[int, int, int] | None:
        base = Path(name).name
        for key in (name, base):
            if key in self._files:
                return self._files[key]
            if key in self._members:
                return self._members[key]
        return None

    def read(self, name: str) -> bytes:
        """Return the encoded bytes of picture `name`.

        Raises
        ------
        DataError
            If there is no such picture or it cannot be read.
        """
        where = self._find(name)
        if where is None:
            raise DataError(f"picture {name!r} is in none of the folders and tar files given")
        if isinstance(where, Path):
            try:
                return where.read_bytes()
            except OSError as error:
                raise DataError(f"cannot read picture {str(where)!r}: {error}") from error
        number, offset, size = where
        if number not in self._maps:
            with self._tars[number].open("rb") as file:
                self._maps[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[number][offset : offset + size]
