"""Configuration of a training run: one frozen data class, readable from and writable to JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dynamite_widget.training.augment import AugmentConfig
from dynamite_widget.training.clicks import ClickConfig
from dynamite_widget.training.losses import LossConfig


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW, its schedule, and what is not trained.

    Attributes
    ----------
    learning_rate, backbone_factor : float
        Base rate, and what the backbone's is multiplied by.
    weight_decay : float
        Not applied to norm layers, embeddings and position-bias tables (nor to anything
        one-dimensional when ``decay_vectors`` is False).
    clip_norm : float
        Global gradient norm; 0 switches clipping off.
    schedule : {"cosine", "step"}
        Over the planned number of samples; ``milestones`` are fractions of it (factor 0.1 each).
    warmup_samples : int
        Linear warm-up.
    final_factor : float
        Where the cosine ends, relative to the base rate.
    ema_decay : float
        Decay of the moving average of the weights, per step; 0 switches it off.
    frozen : tuple of str
        Regular expressions; parameters whose name matches one from its start are not trained.
    frozen_batch_norm : bool
        Keep batch-norm statistics of the backbone as they are.
    frozen_depthwise : bool
        Keep the backbone's depth-wise filters as they are (see `training.speed`).
    """

    learning_rate: float = 1e-4
    backbone_factor: float = 0.1
    weight_decay: float = 0.05
    decay_vectors: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 0.01
    schedule: Literal["cosine", "step"] = "step"
    milestones: tuple[float, ...] = (0.88889, 0.963)
    warmup_samples: int = 0
    final_factor: float = 0.0
    ema_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    frozen_batch_norm: bool = False
    frozen_depthwise: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run, given its data.

    Attributes
    ----------
    preset : str
        Name of the network configuration.
    samples : int
        Planned number of crops; the schedule runs over them.
    batch_size : int
        Crops per step over all processes.
    crops : tuple of (float, int)
        (fraction of the run, crop side in pixels): the side from that fraction on.
    rounds : tuple of float
        Weights of 0, 1, 2 … rounds of corrective clicks; one number is drawn per step.
    zero_padding : bool
        Padding is 0 after normalisation (as in prediction) instead of pixel value 128.
    precision : {"no", "bf16", "fp16"}
        Mixed precision, through Accelerate.
    channels_last : bool
        Memory layout of the picture tensors.
    source_weights : tuple of (pattern, weight)
        See `dynamite_widget.training.data.InstanceDataset`.
    """

    preset: str
    samples: int
    batch_size: int
    crops: tuple[tuple[float, int], ...] = ((0.0, 1024),)
    rounds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    seed: int = 2091831170
    zero_padding: bool = False
    precision: Literal["no", "bf16", "fp16"] = "no"
    channels_last: bool = False
    source_weights: tuple[tuple[str, float], ...] = ()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    clicks: ClickConfig = field(default_factory=ClickConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.samples < self.batch_size:
            raise ValueError(
                f"need batch_size >= 1 and samples >= batch_size, got batch_size="
                f"{self.batch_size}, samples={self.samples}"
            )
        if not self.crops or any(side < 32 or side % 32 for _, side in self.crops):
            raise ValueError(f"crop sides must be positive multiples of 32, got {self.crops}")

    @property
    def steps(self) -> int:
        """Planned number of optimiser steps."""
        return self.samples // self.batch_size

    def crop_side(self, step: int) -> int:
        """Crop side in pixels at a step."""
        reached = [side for start, side in sorted(self.crops) if step >= start * self.steps]
        return reached[-1] if reached else sorted(self.crops)[0][1]

    def to_json(self) -> str:
        """Return the configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read `to_json` output; unknown fields are refused."""
        return _build(cls, json.loads(text))

    def override(self, assignments: list[str]) -> TrainConfig:
        """Apply ``name=value`` texts, such as ``optimiser.learning_rate=3e-4`` (value in JSON)."""
        content = json.loads(self.to_json())
        for assignment in assignments:
            path, separator, text = assignment.partition("=")
            place: Any = content
            *parents, leaf = path.strip().split(".")
            for part in parents:
                place = place.get(part) if isinstance(place, dict) else None
            if not separator or not isinstance(place, dict) or leaf not in place:
                raise ValueError(f"cannot set {assignment!r}; the recipe has no such field")
            place[leaf] = parse_value(text)
        return _build(type(self), content)


def parse_value(text: str) -> Any:
    """Value of a ``name=value`` argument: JSON where it is, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _build(kind: Any, content: dict[str, Any]) -> Any:
    """Build a (nested) data class from plain data."""
    hints = get_type_hints(kind)
    unknown = set(content) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    arguments = {}
    for name, value in content.items():
        options = [hints[name], *get_args(hints[name])]
        nested = next((o for o in options if isinstance(o, type) and is_dataclass(o)), None)
        if nested is not None and isinstance(value, dict):
            value = _build(nested, value)
        elif get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
            raise ValueError(f"{name} must be one of {get_args(hints[name])}, got {value!r}")
        arguments[name] = _tuples(value)
    return kind(**arguments)
