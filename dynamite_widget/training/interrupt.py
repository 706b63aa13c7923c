"""Ending a run politely: Ctrl+C and SIGTERM finish the step and write a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


class StopRequest:
    """Listens to SIGINT and SIGTERM while a run lasts; a second signal acts as usual.

    Outside the main thread, where Python allows no handlers, it never asks.

    Attributes
    ----------
    asked : bool
        Whether the run should end after the current step.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        logger.warning("ending after this step; signal once more to end at once")
        self.close()

    def close(self) -> None:
        """Give the signals back to whoever handled them before."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
