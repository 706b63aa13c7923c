"""Interrupting a long computation between two of its steps, on the thread that computes.

Whoever computes calls `give_way` now and then; whoever asked for it says with `interruptible` what
is to happen there. No torch here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_here = threading.local()


class Cancelled(Exception):  # noqa: N818 - not an error: nobody wants the result any more
    """Ends a computation in `give_way`; for whoever entered `interruptible` to catch."""


@contextlib.contextmanager
def interruptible(interrupt: Callable[[], object]) -> Iterator[None]:
    """Call a function whenever a computation of this thread gives way.

    It may raise `Cancelled`, or do something else first and return: then the computation goes on.
    What it computes itself is not interrupted.
    """
    before = getattr(_here, "interrupt", None)
    _here.interrupt = interrupt
    try:
        yield
    finally:
        _here.interrupt = before


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let nothing come in between while a computation of this thread gives way."""
    with interruptible(lambda: None):
        yield


def give_way() -> None:
    """Let what is more urgent come first; next to nothing where nobody asked for that."""
    interrupt = getattr(_here, "interrupt", None)
    if interrupt is None:
        return
    _here.interrupt = None
    try:
        interrupt()
    finally:
        _here.interrupt = interrupt
