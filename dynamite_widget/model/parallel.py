"""Independent pieces of one computation on several cores, each piece on one of them.

PyTorch splits single operations over the cores and waits for all cores at the end of each. With
small operations the waiting costs more than the splitting brings, and much more while another
process wants a core, too: thousands of times per click everybody waits for the core that lags
behind. Here the cores meet once, when all pieces are done, and a core that lags takes fewer pieces.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from ..cancelling import give_way, uninterrupted

__all__ = [
    "cores",
    "even_slices",
    "in_even_pieces",
    "in_pieces",
    "in_slices",
    "one_core",
    "rounds_of_slices",
]

T = TypeVar("T")
R = TypeVar("R")

_here = threading.local()


def cores() -> int:
    """Return how many pieces can run at a time: PyTorch's threads within `one_core`, else 1."""
    stated: int = getattr(_here, "cores", 1)
    return stated


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep the operations of this thread on one core and leave the others to `in_pieces`."""
    if hasattr(_here, "cores"):  # in a piece, or entered already
        yield
        return
    _here.cores = torch.get_num_threads()
    try:
        with _openmp().limit(limits=1):  # that of this thread only
            yield
    finally:
        del _here.cores


def even_slices(length: int, count: int) -> list[slice]:
    """Cut a range into at most `count` slices of about the same length, none of them empty."""
    count = max(1, min(length, count))
    ends = [length * i // count for i in range(count + 1)]
    return [slice(*ends) for ends in itertools.pairwise(ends)]


def rounds_of_slices(length: int, most: int) -> list[slice]:
    """Cut a range into even slices of at most `most`, as many for each core."""
    return even_slices(length, -(-length // (most * cores())) * cores())


def in_pieces(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply a function to each item; within `one_core` on several cores if there are any.

    Parameters
    ----------
    function : callable
        Runs with the gradient mode and the autocast of the caller. What it raises is raised here,
        when the pieces begun have ended.
    items : sequence
        Best with what takes longest first.

    Returns
    -------
    list
        In the order of the items.
    """
    results: list[Any] = [None] * len(items)
    todo = deque(enumerate(items))

    def work(caller: bool) -> None:
        while True:
            if caller:
                give_way()  # what comes in between may use all cores
            try:
                place, item = todo.popleft()
            except IndexError:
                return
            with _alone():
                results[place] = function(item)

    helpers = min(cores(), len(items)) - 1
    if helpers < 1:
        work(True)
        return results
    modes = _Modes()

    def help_out() -> None:
        with modes.applied():
            work(False)

    pool = _pool(cores() - 1)
    futures = [pool.submit(help_out) for _ in range(helpers)]
    try:
        work(True)
    except BaseException:
        todo.clear()
        raise
    finally:
        begun = [future for future in futures if not future.cancel()]
        wait(begun)
    for future in begun:
        future.result()
    return results


def in_even_pieces(function: Callable[[slice], object], length: int, most: int) -> None:
    """Apply a function to slices of a range, each on one core.

    Parameters
    ----------
    function : callable
        Called with slices of even length that cover ``range(length)``.
    length : int
        Of the range.
    most : int
        Length of a slice at most.
    """
    with one_core():
        in_pieces(function, rounds_of_slices(length, most))


def in_slices(function: Callable[[slice], Tensor], length: int, worthwhile: bool) -> Tensor:
    """Join along axis 1 what a function makes of slices of it, a slice per core.

    Parameters
    ----------
    function : callable
        Takes a slice of the axis, returns a tensor.
    length : int
        Of the axis.
    worthwhile : bool
        Otherwise, or without other cores, the function is called once.
    """
    if cores() < 2 or not worthwhile:
        return function(slice(None))
    return torch.cat(in_pieces(function, even_slices(length, cores())), dim=1)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let pieces of a piece run one after the other, and nothing interrupt a piece."""
    before = getattr(_here, "cores", None)
    _here.cores = 1
    try:
        with uninterrupted():
            yield
    finally:
        if before is None:
            del _here.cores
        else:
            _here.cores = before


class _Modes:
    """What PyTorch keeps per thread and operations depend on."""

    def __init__(self) -> None:
        self._inference = torch.is_inference_mode_enabled()
        self._gradients = torch.is_grad_enabled()
        self._autocast = torch.is_autocast_enabled("cpu")
        self._dtype = torch.get_autocast_dtype("cpu")

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        with (
            torch.inference_mode(self._inference),
            torch.set_grad_enabled(self._gradients),
            torch.autocast("cpu", dtype=self._dtype, enabled=self._autocast),
        ):
            yield


@cache
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    def begin() -> None:
        torch.get_num_threads()  # sets the number of this thread, once; what follows stays
        _here.openmp = _openmp().limit(limits=1)

    return ThreadPoolExecutor(size, "dynamite-widget-piece", begin)
