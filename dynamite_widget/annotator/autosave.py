"""Saving behind the person's back: a thread that writes what changed, newest first to win.

Whoever edits only says which picture changed (`touch`); the thread fetches the newest state, writes
it atomically and then notes it in the index. What cannot be written is kept and tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..session import ClickSession
from .store import AnnotationStore

logger = logging.getLogger(__name__)

DELAY_S = 0.25
"""Changes within this time after the first are written together."""
RETRY_S = 1.0

Snapshot = Callable[[], ClickSession | None]


class Autosave:
    """Owner of the thread that writes to a store.

    Parameters
    ----------
    store : AnnotationStore
        Open for writing.
    on_error : callable, optional
        Called on the thread with a message when writing fails, and with "" when it works again.
    on_saved : callable, optional
        Called on the thread with the keys that are on the disk now.
    delay_s : float
        How long the thread waits for further changes before it writes.
    """

    def __init__(
        self,
        store: AnnotationStore,
        on_error: Callable[[str], object] | None = None,
        on_saved: Callable[[tuple[str, ...]], object] | None = None,
        delay_s: float = DELAY_S,
    ) -> None:
        self._store = store
        self._on_error, self._on_saved = on_error, on_saved
        self._delay_s = delay_s
        self._condition = threading.Condition()
        # Under the condition's lock; a key without a snapshot has a new record only.
        self._waiting: dict[str, Snapshot | None] = {}
        self._current: str | None = None
        self._writing: frozenset[str] = frozenset()
        self._busy = False
        self._hurry = 0
        self._closed = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="dynamite-autosave", daemon=True)
        self._thread.start()

    def touch(self, key: str, snapshot: Snapshot | None = None) -> None:
        """Save a picture soon.

        Parameters
        ----------
        key : str
        snapshot : callable, optional
            Called on the thread: returns a session nobody else changes, or None when another
            `touch` has what is to be saved. Without it only the record is written.
        """
        with self._condition:
            if self._closed:
                return
            self._waiting[key] = snapshot or self._waiting.get(key)
            self._condition.notify_all()

    def note_current(self, key: str) -> None:
        """Remember which picture is open, after everything that was touched before."""
        with self._condition:
            self._current = key
            self._condition.notify_all()

    def has(self, key: str) -> bool:
        """Tell whether a picture waits to be saved."""
        with self._condition:
            return key in self._waiting or key in self._writing

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is on the disk; False if `timeout_s` passed first."""
        with self._condition:
            self._hurry += 1
            self._condition.notify_all()
            try:
                return self._condition.wait_for(
                    lambda: not (self._waiting or self._busy or self._current is not None),
                    timeout_s,
                )
            finally:
                self._hurry -= 1

    def close(self, timeout_s: float | None = 30.0) -> bool:
        """Save what waits and end the thread; False if that took too long."""
        done = self.flush(timeout_s)
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout_s)
        return done

    # -- on the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._store.remove_leftovers()
        except OSError as error:
            logger.warning("temporary files could not be removed: %s", error)
        while True:
            with self._condition:
                self._busy = False
                self._writing = frozenset()
                self._condition.notify_all()
                self._condition.wait_for(self._has_work)
                if not self._failing:
                    self._condition.wait_for(lambda: self._hurry or self._closed, self._delay_s)
                if self._closed:
                    return
                batch, self._waiting = self._waiting, {}
                current, self._current = self._current, None
                self._busy, self._writing = True, frozenset(batch)
            try:
                self._write(batch, current)
            except Exception as error:
                self._put_back(batch, current, error)

    def _has_work(self) -> bool:
        return self._closed or bool(self._waiting) or self._current is not None

    def _write(self, batch: dict[str, Snapshot | None], current: str | None) -> None:
        sessions: dict[str, ClickSession] = {}
        for key, snapshot in batch.items():
            session = None if snapshot is None else snapshot()
            if session is not None:
                sessions[key] = session
        refused = self._store.write(sessions, batch, current)
        for key, error in refused.items():
            # Not a matter of the disk: trying again would not help, and others shall not wait.
            logger.error("the session of %s cannot be saved: %s", key, error)
            self._tell(f"{key} is not saved: {error}")
        if self._failing:
            self._failing = False
            self._tell("")
        if self._on_saved is not None and batch:
            self._on_saved(tuple(batch))

    def _put_back(
        self, batch: dict[str, Snapshot | None], current: str | None, error: Exception
    ) -> None:
        if isinstance(error, OSError):
            logger.warning("saving failed: %s", error)
            text = error.strerror or str(error)
        else:
            logger.error("saving failed", exc_info=error)
            text = f"{type(error).__name__}: {error}"
        self._failing = True
        self._tell(f"not saved: {text}; trying again")
        with self._condition:
            newer = self._waiting
            self._waiting = {key: newer.pop(key, None) or old for key, old in batch.items()}
            self._waiting.update(newer)
            if self._current is None:
                self._current = current
        pause = time.monotonic() + RETRY_S
        with self._condition:
            self._condition.wait_for(lambda: self._closed, pause - time.monotonic())

    def _tell(self, message: str) -> None:
        if self._on_error is None:
            return
        try:
            self._on_error(message)
        except Exception:
            logger.exception("a callback failed")
