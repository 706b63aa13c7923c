"""Embeddings on disk: what the network knows of a picture, kept from one day to the next.

One safetensors file per picture and network (no pickles), within a size budget: those that were not
used for longest go first. A file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..embedding_cache import EmbeddingCache, Key
from ..errors import DataError
from ..session_json import write_atomically

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
DEFAULT_BUDGET_BYTES = 10 << 30
_VERSION = "1"
_NAME = re.compile(r"[0-9a-f]{32}\.safetensors")
_LEFT_OUT = "features"


class EmbeddingStore:
    """A folder of embeddings. Several processes may use it at once.

    Parameters
    ----------
    folder : path
        Made when something is put into it.
    budget_bytes : int
        Size of all files together; an embedding that is larger is not kept.
    """

    def __init__(
        self, folder: str | os.PathLike[str], budget_bytes: int = DEFAULT_BUDGET_BYTES
    ) -> None:
        if budget_bytes < 0:
            raise ValueError(f"budget_bytes must be >= 0, got {budget_bytes}")
        self.folder = Path(folder).expanduser()
        self.budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._sizes: int | None = None

    def path(self, key: Key) -> Path:
        """Return the file of an embedding: named after picture and network."""
        digest = hashlib.sha256("|".join((_VERSION, *key)).encode()).hexdigest()[:32]
        return self.folder / f"{digest}{SUFFIX}"

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and self.path(key).is_file()

    def __len__(self) -> int:
        return sum(1 for _ in self._files())

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def put(self, key: Key, embedding: Any) -> bool:
        """Keep an embedding; False if it does not fit into the budget.

        Raises
        ------
        DataError
            If it cannot be written.
        """
        from safetensors.torch import save

        tensors, notes = _pack(embedding)
        data = save(tensors, {"key": json.dumps(key), "embedding": json.dumps(notes)})
        if len(data) > self.budget_bytes:
            return False
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._make_room(len(data))
                write_atomically(self.path(key), data)
            except OSError as error:
                raise DataError(f"cannot write embeddings to {str(self.folder)!r}: {error}") from (
                    error
                )
            if self._sizes is not None:
                self._sizes += len(data)
        return True

    def get(self, key: Key) -> Any | None:
        """Return an embedding on the device that `key` names; None if there is none of use."""
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        if not path.is_file():
            return None
        device = key[1].split("|")[1] if key[1].count("|") >= 1 else "cpu"
        try:
            with safe_open(path, "pt", device=device or "cpu") as file:
                notes = file.metadata()
                if tuple(json.loads(notes["key"])) != tuple(key):
                    return None
                names = list(file.keys())
                tensors = {name: file.get_tensor(name) for name in names}
            embedding = _unpack(tensors, json.loads(notes["embedding"]))
            os.utime(path)  # used last now
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is of no use and is computed again: %s", path, error)
            return None
        return embedding

    def clear(self) -> None:
        """Delete all embeddings of the folder, and nothing else."""
        with self._lock:
            for path, _, _ in self._files():
                path.unlink(missing_ok=True)
            self._sizes = None

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        if not self.folder.is_dir():
            return
        for entry in os.scandir(self.folder):
            if _NAME.fullmatch(entry.name):
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue  # another process made room
                yield Path(entry.path), found.st_size, found.st_mtime

    def _make_room(self, wanted: int) -> None:
        if self._sizes is None:
            self._sizes = sum(size for _, size, _ in self._files())
        if self._sizes + wanted <= self.budget_bytes:
            return
        files = sorted(self._files(), key=lambda entry: entry[2])
        total = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if total + wanted <= self.budget_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._sizes = total


class DiskBackedCache(EmbeddingCache):
    """A cache in memory that looks on the disk before it computes.

    Parameters
    ----------
    store : EmbeddingStore
    budget_bytes : int, optional
        Of the memory; see `EmbeddingCache`.
    """

    def __init__(self, store: EmbeddingStore, budget_bytes: int = 1 << 30) -> None:
        super().__init__(budget_bytes)
        self.store = store

    def acquire(self, key: Key, compute: Callable[[], Any]) -> Any:
        """Return the embedding of `key`: from memory, from the disk, or computed."""

        def find() -> Any:
            embedding = self.store.get(key)
            return compute() if embedding is None else embedding

        return super().acquire(key, find)


_caches: dict[str, DiskBackedCache] = {}
_caches_lock = threading.Lock()


def cache_for(folder: str | os.PathLike[str]) -> DiskBackedCache:
    """Return the cache of a folder, one per process."""
    path = os.path.realpath(folder)
    with _caches_lock:
        if path not in _caches:
            _caches[path] = DiskBackedCache(EmbeddingStore(path))
        return _caches[path]


def _pack(embedding: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors of an `ImageEmbedding` by name, and everything else as plain data."""
    import torch

    tensors: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    prepared = embedding.prepared
    parts = {
        **{f"prepared.{f.name}": getattr(prepared, f.name) for f in fields(prepared)},
        **{
            f"features.{f.name}": getattr(prepared.features, f.name)
            for f in fields(prepared.features)
        },
    }
    for name, value in parts.items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value.contiguous()
        elif isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
            lengths[name] = len(value)
            for number, tensor in enumerate(value):
                tensors[f"{name}.{number}"] = tensor.contiguous()
    tensors["thumbnail"] = torch.from_numpy(embedding.thumbnail.copy())
    shared: set[int] = set()
    for name, tensor in tensors.items():
        # The format has no aliases: memory that two names share is written for each.
        if tensor.untyped_storage().data_ptr() in shared:
            tensors[name] = tensor.clone()
        shared.add(tensor.untyped_storage().data_ptr())
    notes = {
        "height": embedding.height,
        "width": embedding.width,
        "network_size": list(embedding.network_size),
        "padded_size": list(embedding.padded_size),
        "feature_size": list(prepared.features.padded_size),
        "picture_hash": embedding.picture_hash,
        "key": embedding.key,
        "config": asdict(embedding.config),
        "lengths": lengths,
    }
    return tensors, notes


def _unpack(tensors: dict[str, Any], notes: dict[str, Any]) -> Any:
    """Rebuild an `ImageEmbedding`; KeyError or TypeError if the file is of another version."""
    from ..model.config import ModelConfig
    from ..model.predictor import ImageEmbedding
    from ..model.structures import ImageFeatures, PreparedFeatures

    def part(name: str) -> Any:
        if name in notes["lengths"]:
            return tuple(tensors[f"{name}.{k}"] for k in range(notes["lengths"][name]))
        return tensors.get(name)

    features = ImageFeatures(
        padded_size=tuple(notes["feature_size"]),
        **{
            f.name: part(f"features.{f.name}")
            for f in fields(ImageFeatures)
            if f.name != "padded_size"
        },
    )
    prepared = PreparedFeatures(
        features=features,
        **{
            f.name: part(f"prepared.{f.name}")
            for f in fields(PreparedFeatures)
            if f.name != _LEFT_OUT
        },
    )
    return ImageEmbedding(
        notes["height"],
        notes["width"],
        tuple(notes["network_size"]),
        tuple(notes["padded_size"]),
        notes["picture_hash"],
        notes["key"],
        prepared,
        _config(ModelConfig, notes["config"]),
        tensors["thumbnail"].cpu().numpy(),
    )


def _config(kind: Any, values: dict[str, Any]) -> Any:
    """Rebuild the configuration: JSON has made lists of its tuples and dicts of its parts."""
    import typing

    hints = typing.get_type_hints(kind)
    made = {}
    for name, value in values.items():
        hint = hints[name]
        if hasattr(hint, "__dataclass_fields__"):
            made[name] = _config(hint, value)
        else:
            made[name] = _tuples(value)
    return kind(**made)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
