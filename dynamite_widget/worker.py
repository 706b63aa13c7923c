"""A thread that runs callables one after another, now or later. No widget, no model."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable

logger = logging.getLogger(__name__)


class SerialThread:
    """Runs posted callables in order on one daemon thread, which starts with the first of them.

    A callable that raises is logged and does not stop the others. Any thread may post.

    Parameters
    ----------
    name : str
        Name of the thread, for debuggers.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._condition = threading.Condition()
        self._queue: list[tuple[float, int, Hashable, Callable[[], object]]] = []
        self._counter = itertools.count()
        self._newest: dict[Hashable, int] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self._running = False

    def post(
        self, function: Callable[[], object], delay_s: float = 0.0, key: Hashable = None
    ) -> bool:
        """Run `function` after `delay_s` seconds; False if the thread is closed.

        With a `key`, an earlier callable of the same key that has not run yet is forgotten.
        """
        with self._condition:
            if self._closed:
                return False
            number = next(self._counter)
            if key is not None:
                self._newest[key] = number
            # Equal due times run in the order of posting, so "now" is one constant.
            due = time.monotonic() + delay_s if delay_s > 0 else 0.0
            heapq.heappush(self._queue, (due, number, key, function))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._condition.notify_all()
            return True

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that is due has run; False on timeout. For tests and closing."""
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._running and self._due_in() != 0.0, timeout_s
            )

    def close(self, timeout_s: float | None = 5.0) -> None:
        """Forget what waits and end the thread; does not wait when called on it."""
        with self._condition:
            self._closed = True
            self._queue.clear()
            self._condition.notify_all()
        if self._thread is not None and not self.is_current:
            self._thread.join(timeout_s)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return threading.current_thread() is self._thread

    def _due_in(self) -> float | None:
        """Seconds until the next callable is due, None without one."""
        while self._queue:
            _, number, key, _ = self._queue[0]
            if key is None or self._newest.get(key) == number:
                break
            heapq.heappop(self._queue)
        if not self._queue:
            return None
        return max(0.0, self._queue[0][0] - time.monotonic())

    def _run(self) -> None:
        while True:
            with self._condition:
                self._running = False
                self._condition.notify_all()
                while not self._closed and self._due_in() != 0.0:
                    self._condition.wait(self._due_in())
                if self._closed:
                    return
                _, _, key, function = heapq.heappop(self._queue)
                if key is not None:
                    del self._newest[key]
                self._running = True
            try:
                function()
            except Exception:
                logger.exception("a callable of %s failed", self._name)
            # Not to be kept alive while waiting: it may hold a widget.
            del function
