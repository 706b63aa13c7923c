"""What survives an interruption: the moving average of the weights, and atomic checkpoints."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynamite_widget.errors import CheckpointError

logger = logging.getLogger(__name__)

FORMAT = 1


class MovingAverage:
    """Exponential moving average of parameters, and copies of the buffers.

    The decay grows with the steps taken, ``min(decay, (1 + n) / (10 + n))``, so that the average
    does not remember the random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.taken = 0
        self.names = [name for name, _ in model.named_parameters()]
        self.values = [p.detach().clone().float() for p in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the current weights."""
        self.taken += 1
        decay = min(self.decay, (1 + self.taken) / (10 + self.taken))
        current = [p.detach().float() for p in model.parameters()]
        torch._foreach_lerp_(self.values, current, 1.0 - decay)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a full state dict: averaged parameters, current buffers."""
        state = {key: value.detach().clone() for key, value in model.state_dict().items()}
        for name, value in zip(self.names, self.values, strict=True):
            if name in state:
                state[name] = value.to(state[name].dtype).clone()
        return state

    def pack(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"taken": self.taken, "values": self.values}

    def unpack(self, packed: dict[str, Any]) -> None:
        """Restore from `pack`."""
        self.taken = int(packed["taken"])
        for own, stored in zip(self.values, packed["values"], strict=True):
            own.copy_(stored)


def write_atomically(content: Any, path: Path) -> None:
    """``torch.save`` to a temporary file, then rename: a killed process leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def random_states() -> dict[str, Any]:
    """States of the generators of torch, numpy and python, as plain data and tensors.

    Samples have generators of their own; these are only used by code that asks nobody (stochastic
    depth, identity codes).
    """
    legacy: Any = np.random.get_state()  # noqa: NPY002
    kind, keys, position, has_gauss, gauss = legacy
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), keys.tolist(), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), gauss_next],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo `random_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run (tensors and plain data only; nothing in it is executed).

    Raises
    ------
    CheckpointError
        If it is missing, damaged or of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"nothing to resume: there is no {str(path)!r}") from error
    except Exception as error:
        raise CheckpointError(f"cannot read checkpoint {str(path)!r}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{str(path)!r} is not a checkpoint of a training run")
    return content
