"""Weights as a file to hand on: safetensors with configuration and history in its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynamite_widget.model.config import ModelConfig


def save_weights(
    state: dict[str, Tensor],
    config: ModelConfig,
    path: Path,
    metadata: dict[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a state dict, atomically.

    Parameters
    ----------
    state : dict of Tensors
        Full state dict of a network.
    config : ModelConfig
        Stored as JSON under ``config``.
    path : path
        The file to write.
    metadata : dict, optional
        Plain data, stored as JSON under the same keys.
    dtype : torch.dtype, optional
        Floating-point tensors are converted to it (``torch.float16`` for release).
    """
    from safetensors.torch import save_file

    tensors = {}
    for key, value in state.items():
        value = value.detach().to("cpu")
        if dtype is not None and value.is_floating_point():
            value = value.to(dtype)
        # safetensors refuses tensors that share memory
        tensors[key] = value.clone(memory_format=torch.contiguous_format)
    texts = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    texts["config"] = json.dumps(config.to_dict())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(tensors, partial, metadata=texts)
    partial.replace(path)
