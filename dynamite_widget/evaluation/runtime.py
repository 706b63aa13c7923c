"""Time and memory of a prediction over the number of clicks (paper, Figure 3)."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..session import Click
from .predictors import EvaluationPredictor, predict_label_map

CLICK_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class RuntimeRow:
    """One point of the figure.

    Parameters
    ----------
    clicks : int
        Clicks of the prediction.
    seconds : float
        Median time of a prediction, in seconds; `embed_seconds` once per picture.
    memory_bytes : int
        Peak during these predictions: of the GPU if the process uses one, else of the whole
        process, libraries and network included. (Where the system cannot start its peak anew, which
        is all but Linux, the peak so far.)
    """

    clicks: int
    seconds: float
    embed_seconds: float
    memory_bytes: int


def measure_runtime(
    predictor: EvaluationPredictor,
    image: NDArray[np.uint8],
    counts: Sequence[int] = CLICK_COUNTS,
    *,
    objects: int = 5,
    repeats: int = 3,
    seed: int = 0,
) -> list[RuntimeRow]:
    """Measure predictions with growing numbers of random clicks on one picture.

    Parameters
    ----------
    image : (H, W, 3) uint8
    counts : sequence of int
        Numbers of clicks, ascending.
    objects : int
        Clicks are spread over so many instances and the background.
    repeats : int
        Timed predictions per number, after one that is not timed; the median counts.
    """
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    clicks = [
        Click(
            x=int(rng.integers(width)),
            y=int(rng.integers(height)),
            instance=index % (objects + 1) if index >= objects else index + 1,
            t=index,
        )
        for index in range(max(counts))
    ]
    start = time.perf_counter()
    embedding = predictor.embed(image)
    embed_seconds = time.perf_counter() - start
    rows = []
    for count in counts:
        part = clicks[:count]
        instances = sorted({click.instance for click in part} - {0})
        seconds = []
        _start_peak_anew()
        for _ in range(repeats + 1):
            start = time.perf_counter()
            predict_label_map(predictor, embedding, part, instances, (height, width))
            seconds.append(time.perf_counter() - start)
        median = float(np.median(seconds[1:]))
        rows.append(RuntimeRow(count, median, embed_seconds, _peak_memory_bytes()))
    return rows


_STATUS = Path("/proc/self/status")


def _cuda() -> Any:
    """Return torch.cuda if this process uses it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda
    return None


def _start_peak_anew() -> None:
    if cuda := _cuda():
        cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; Linux only


def _peak_memory_bytes() -> int:
    if cuda := _cuda():
        return int(cuda.max_memory_allocated())
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
