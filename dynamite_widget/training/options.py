"""How a run is watched and kept, and its learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from dynamite_widget.training.config import OptimiserConfig


@dataclass(frozen=True)
class LoopOptions:
    """How a run is watched and kept; nothing here changes what is learned.

    Attributes
    ----------
    folder : path
        Where checkpoints, log, pictures and weights go.
    resume : bool
        Go on from the folder's checkpoint (an error if there is none).
    minutes : float or None
        Stop after so many minutes in this sitting, with a checkpoint.
    stop_after : int or None
        Stop after so many steps in this sitting, with a checkpoint.
    checkpoint_minutes, validate_minutes : float
        How often; also at the end. Validation needs examples.
    checkpoint_steps : int
        Checkpoint also every so many steps (0 = no).
    report_steps : int
        Log a row every so many steps.
    workers : int
        Processes that make samples.
    tensorboard, pictures, progress : bool
        Write TensorBoard files; write pictures of predictions at validation; show a progress bar.
    """

    folder: Path
    resume: bool = False
    minutes: float | None = None
    stop_after: int | None = None
    checkpoint_minutes: float = 5.0
    validate_minutes: float = 15.0
    checkpoint_steps: int = 0
    report_steps: int = 50
    workers: int = 1
    tensorboard: bool = False
    pictures: bool = True
    progress: bool = True


def rate_factor(config: OptimiserConfig, samples_done: float, samples: int) -> float:
    """Multiplier of the base learning rate after `samples_done` of `samples` planned samples."""
    if config.warmup_samples and samples_done < config.warmup_samples:
        return (samples_done + 1.0) / (config.warmup_samples + 1.0)
    done = samples_done / samples
    if config.schedule == "step":
        return float(0.1 ** sum(done >= milestone for milestone in config.milestones))
    start = config.warmup_samples / samples
    progress = min(1.0, max(0.0, (done - start) / max(1e-9, 1.0 - start)))
    half = 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.final_factor + (1.0 - config.final_factor) * half
