"""Embeddings kept for pictures seen before: least recently used go first, within a byte budget.

One cache per process by default, shared by all controllers. An embedding is keyed by what it is a
function of: the picture and the checkpoint.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .cancelling import give_way

Key = tuple[str, str]
DEFAULT_BUDGET_BYTES = 1 << 30
_PATIENCE_S = 0.1


@dataclass
class _Entry:
    embedding: Any
    size_bytes: int
    users: int = 0


class EmbeddingCache:
    """Thread-safe LRU cache of embeddings.

    Those in use count towards the budget but are never dropped; computing is done by one thread at
    a time, so that several widgets neither embed the same picture twice nor pile up memory.

    Parameters
    ----------
    budget_bytes : int
        Bytes (the embeddings' ``nbytes``) to keep; at least one embedding may always be in use.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        if budget_bytes < 0:
            raise ValueError(f"budget_bytes must be >= 0, got {budget_bytes}")
        self.budget_bytes = budget_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._computing = threading.Lock()

    def acquire(self, key: Key, compute: Callable[[], Any]) -> Any:
        """Return the embedding of `key`, computed if need be, and count one more user."""
        entry = self._find(key)
        if entry is None:
            with self._turn():
                entry = self._find(key)  # another thread may have been faster
                if entry is None:
                    embedding = compute()
                    entry = _Entry(embedding, int(getattr(embedding, "nbytes", 0)), users=1)
                    with self._lock:
                        self._entries[key] = entry
                        self._trim()
        return entry.embedding

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other thread computes; interruptible like the computing itself."""
        while not self._computing.acquire(timeout=_PATIENCE_S):
            give_way()
        try:
            yield
        finally:
            self._computing.release()

    def release(self, key: Key, drop: bool = False) -> None:
        """Count one user less; with `drop` an embedding that nobody uses goes at once."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return
            entry.users = max(0, entry.users - 1)
            if drop and entry.users == 0:
                del self._entries[key]
            self._trim()

    def prefetch(self, key: Key, compute: Callable[[], Any]) -> None:
        """Compute and keep an embedding that will be used soon."""
        self.acquire(key, compute)
        self.release(key)

    def clear(self) -> None:
        """Drop every embedding that is not in use."""
        with self._lock:
            for key in [k for k, entry in self._entries.items() if entry.users == 0]:
                del self._entries[key]

    @property
    def size_bytes(self) -> int:
        """Bytes of all embeddings kept."""
        with self._lock:
            return sum(entry.size_bytes for entry in self._entries.values())

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._entries

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def _find(self, key: Key) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(key)
            return entry

    def _trim(self) -> None:
        total = sum(entry.size_bytes for entry in self._entries.values())
        for key in list(self._entries):
            if total <= self.budget_bytes:
                break
            if self._entries[key].users == 0:
                total -= self._entries.pop(key).size_bytes


_shared: EmbeddingCache | None = None
_shared_lock = threading.Lock()


def shared_cache() -> EmbeddingCache:
    """Return the cache that all controllers of this process share."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = EmbeddingCache()
        return _shared
