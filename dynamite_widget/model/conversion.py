"""State dicts in the authors' naming and in ours, strictly, in both directions.

Also answers which preset a set of entries belongs to. Reading and writing files is the business
of `dynamite_widget.model.checkpoints`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model.config import PRESETS, ModelConfig
from dynamite_widget.model.dynamite import DynaMITe, build_model

__all__ = [
    "fitting_presets",
    "from_reference",
    "is_reference",
    "load_strictly",
    "reference_keys",
    "to_reference",
]

logger = logging.getLogger(__name__)

_HEAD = "sem_seg_head."
_NAMES_SHOWN = 3


def is_reference(keys: Iterable[str]) -> bool:
    """Whether the names are those of the authors' checkpoints."""
    return any(key.startswith(_HEAD) for key in keys)


def reference_keys(model: DynaMITe) -> dict[str, str]:
    """Map every entry of ``model.state_dict()`` to its name in the authors' checkpoints."""
    return {key: _reference_key(model, key) for key in model.state_dict()}


def _reference_key(model: DynaMITe, key: str) -> str:
    part, name = key.split(".", 1)
    if part == "backbone":
        return f"backbone.{model.backbone.reference_key(name)}"
    if part == "pixel_decoder":
        return f"{_HEAD}pixel_decoder.{name}"
    return f"{_HEAD}interactive_transformer." + re.sub(r"^queries\.", "", name)


def _constants(model: DynaMITe) -> dict[str, Tensor]:
    constants = model.backbone.reference_constants()
    return {f"backbone.{key}": value for key, value in constants.items()}


def to_reference(model: DynaMITe) -> dict[str, Tensor]:
    """State dict of `model` as the authors name it, computed constants included.

    Returns
    -------
    dict of str to Tensor
        Shares memory with the model, as ``state_dict`` does.
    """
    state = model.state_dict()
    renamed = {theirs: state[ours] for ours, theirs in reference_keys(model).items()}
    return {**renamed, **_constants(model)}


def from_reference(model: DynaMITe, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an authors' checkpoint to those of `model`.

    Parameters
    ----------
    model : DynaMITe
        Only its names are read.
    state : mapping of str to Tensor
        Entries in the authors' naming.

    Returns
    -------
    dict of str to Tensor
        Entries that `model` does not know keep their name, for the strict check that follows.

    Raises
    ------
    CheckpointError
        If an entry that we compute ourselves (Swin's index of relative positions) differs.
    """
    names = {theirs: ours for ours, theirs in reference_keys(model).items()}
    constants = _constants(model)
    renamed = {}
    for key, value in state.items():
        if key in constants:
            if not torch.equal(value.long(), constants[key]):
                raise CheckpointError(f"{key} is not the index table of this backbone's windows")
        else:
            renamed[names.get(key, key)] = value
    return renamed


def load_strictly(model: DynaMITe, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` (our or the authors' naming) into `model`; everything has to fit.

    Parameters
    ----------
    model : DynaMITe
        Receives the values; untouched if anything does not fit.
    state : mapping of str to Tensor
        Any floating dtype.
    source : str
        Where `state` comes from, for the message.

    Raises
    ------
    CheckpointError
        Names the first missing, unexpected and wrongly shaped entries with their numbers, and the
        preset that would fit.
    """
    names = reference_keys(model) if is_reference(state) else {}
    renamed = from_reference(model, state) if names else dict(state)
    own = model.state_dict()
    missing = [names.get(key, key) for key in own if key not in renamed]
    unexpected = [key for key in renamed if key not in own]
    wrong = [
        f"{names.get(key, key)} is {_shape(renamed[key])}, expected {_shape(own[key])}"
        for key in own
        if key in renamed and renamed[key].shape != own[key].shape
    ]
    if not (missing or unexpected or wrong):
        model.load_state_dict(renamed, strict=True)
        return
    problems = [
        f"{len(items)} {label}: {', '.join(items[:_NAMES_SHOWN])}"
        + (", …" if len(items) > _NAMES_SHOWN else "")
        for label, items in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", wrong),
        )
        if items
    ]
    fitting = [name for name in fitting_presets(state) if name != model.config.name]
    hint = (
        f" The file fits preset {' or '.join(map(repr, fitting))}: pass that name."
        if fitting
        else " No preset has exactly these entries."
    )
    raise CheckpointError(
        f"{source} does not fit preset {model.config.name!r}: {'; '.join(problems)}.{hint}"
    )


def fitting_presets(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the presets whose entries and shapes are exactly those of `state`."""
    return [name for name, config in PRESETS.items() if _fits(config, state)]


def _fits(config: ModelConfig, state: Mapping[str, Tensor]) -> bool:
    try:
        with torch.device("meta"):
            model = build_model(config)
    except Exception:
        # Only a hint is lost; the error that this hint belongs to must not be replaced.
        logger.debug("preset %s cannot be built without memory", config.name, exc_info=True)
        return False
    expected = {key: value.shape for key, value in model.state_dict().items()}
    constants: set[str] = set()
    if is_reference(state):
        names = reference_keys(model)
        expected = {names[key]: shape for key, shape in expected.items()}
        constants = {f"backbone.{key}" for key in model.backbone.reference_constants()}
    return expected == {key: value.shape for key, value in state.items() if key not in constants}


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"
