"""What the model thread is asked for, and what it answers; plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import DynaMITeError
from .picture import Picture
from .segmentation import Segmentation
from .session_state import SessionState

StatusName = Literal["starting", "embedding", "predicting", "ready", "error"]


@dataclass(frozen=True)
class Status:
    """What the inference thread is at; `latency_ms` is that of the last prediction."""

    state: StatusName = "starting"
    message: str = ""
    model: str = ""
    device: str = ""
    latency_ms: float | None = None


@dataclass(frozen=True)
class Target:
    """A state to be segmented; `revision` counts the states of one controller."""

    revision: int
    picture: Picture
    state: SessionState


@dataclass(frozen=True)
class Result:
    """What a target came to.

    Parameters
    ----------
    revision : int
        Of the state it answers.
    state : SessionState
        That state.
    picture : Picture
        The picture of that state.
    segmentation : Segmentation
        With the state's edits applied.
    labels : (h, w) int32 array
        Label map at display resolution.
    areas : dict from id to int
        Pixels of the picture; estimated from `labels` where those are smaller.
    scores : dict from id to float
        0..1.
    latency_ms : float
        Time of the network and of drawing `labels`.
    """

    revision: int
    state: SessionState
    picture: Picture
    segmentation: Segmentation
    labels: NDArray[np.int32] = field(repr=False)
    areas: dict[int, int]
    scores: dict[int, float]
    latency_ms: float


@dataclass(frozen=True)
class ProvisionalLabels:
    """Coarse labels to look at until the `Result` of the same revision is there; no answer.

    Parameters
    ----------
    revision : int
        Of the state they show.
    picture : Picture
        The picture of that state.
    labels : (h, w) int32 array
        Label map at display resolution.
    """

    revision: int
    picture: Picture
    labels: NDArray[np.int32] = field(repr=False)


@dataclass
class Job:
    """Something to compute when idle; exactly one of its three callables is called, once.

    Parameters
    ----------
    run, skipped, failed : callable
        Takes predictor, embedding and result; nothing; an exception.
    key : str, optional
        Of jobs with the same key only the newest is run.
    ahead : Picture, optional
        Picture that is embedded ahead of time. Whatever else there is to do comes in between, and
        the job ends as skipped when another picture is to be shown.
    """

    run: Callable[[Any, Any, Result], None]
    skipped: Callable[[], None]
    failed: Callable[[Exception], None]
    key: str | None = None
    ahead: Picture | None = None


def describe(error: BaseException) -> str:
    """Return an exception in words for a person."""
    text = str(error).strip()
    if isinstance(error, DynaMITeError) and text:
        return text
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return f"out of memory while predicting; the clicks are kept. {text}".strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
