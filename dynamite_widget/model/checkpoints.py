"""`load_model`: from a name (and perhaps a file) to a network, shared by the whole process.

Files are read in `weights_file`, fetched in `download`; names are translated in `conversion`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model.config import get_config
from dynamite_widget.model.conversion import load_strictly
from dynamite_widget.model.download import PUBLISHED, cache_dir, fetch_cached, find_published
from dynamite_widget.model.dynamite import DynaMITe, build_model
from dynamite_widget.model.weights_file import Checkpoint, read_checkpoint, save_checkpoint

__all__ = [
    "Checkpoint",
    "bundled_weights",
    "cache_dir",
    "clear_model_cache",
    "load_model",
    "model_hash",
    "read_checkpoint",
    "save_checkpoint",
]

_DEFAULT_NAME = "lite"


class _CacheKey(NamedTuple):
    name: str
    path: str
    version: tuple[int, int]
    device: str
    dtype: str


_models: dict[_CacheKey, DynaMITe] = {}
_lock = threading.Lock()


def load_model(
    name: str = _DEFAULT_NAME,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype | str | None = None,
) -> DynaMITe:
    """Return a network with trained weights, in evaluation mode.

    Networks are cached per process: the same arguments (and an unchanged file) give the same
    object, shared by all callers and threads. Do not train it; `build_model` makes a fresh one.

    Parameters
    ----------
    name : str
        Preset: "lite", "swin-tiny", "swin-large", "segformer-b0", "hrnet32" or "resnet50".
    checkpoint : path or URL, optional
        Our .safetensors, or an authors' .pth or .pkl. By default the bundled weights, else a
        published file in the cache folder (``dynamite download PRESET`` puts it there). Our own
        files state their configuration, which then counts instead of `name`.
    device : str or torch.device
        "auto" takes the first of CUDA, MPS and the CPU that there is.
    dtype : torch.dtype or str, optional
        Type of the backbone's weights, float32 by default; half the memory otherwise. The rest
        stays float32, since sampling positions and the signs of mask logits need the digits.
        `Predictor` computes in half precision on CUDA without being asked, with float32 weights.

    Returns
    -------
    DynaMITe
        With the attribute ``checkpoint_hash``, the SHA-256 of its weights.

    Raises
    ------
    ValueError
        If the preset, device or dtype is unknown.
    CheckpointError
        If there is no file, it cannot be read safely, or its entries do not fit the preset.
    """
    get_config(name)
    where = _device(device)
    kind = _dtype(dtype)
    path = _weights_file(name, checkpoint)
    status = path.stat()
    key = _CacheKey(name, str(path), (status.st_mtime_ns, status.st_size), str(where), str(kind))
    # Loading under the lock: of ten widgets that start together one loads, nine wait.
    with _lock:
        model = _models.get(key)
        if model is None:
            model = _load(name, path, where, kind)
            outdated = [k for k in _models if k._replace(version=key.version) == key]
            for old in outdated:
                del _models[old]
            _models[key] = model
    return model


def clear_model_cache() -> None:
    """Forget the networks that `load_model` keeps; those in use stay alive."""
    with _lock:
        _models.clear()


def bundled_weights(name: str) -> Path | None:
    """Return the weights file that ships with the package for preset `name`, if there is one."""
    path = Path(__file__).resolve().parents[1] / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None


def _weights_file(name: str, checkpoint: str | os.PathLike[str] | None) -> Path:
    if checkpoint is None:
        found = bundled_weights(name) or find_published(name)
        if found is not None:
            return found
        if name in PUBLISHED:
            raise CheckpointError(
                f"there are no weights of preset {name!r} on this machine: run `dynamite download "
                f"{name}`, or put the authors' file into {cache_dir()} as "
                f"{PUBLISHED[name].file_name}, or pass checkpoint=PATH"
            )
        raise CheckpointError(
            f"the weights of preset {name!r} are not bundled in this build: train them with "
            "`dynamite train` (pip install 'dynamite-widget[train]'), or pass checkpoint=PATH"
        )
    text = os.fspath(checkpoint)
    if text.startswith(("http://", "https://")):
        return fetch_cached(text)
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint file {path}")
    return path


def _load(name: str, path: Path, device: torch.device, dtype: torch.dtype) -> DynaMITe:
    content = read_checkpoint(path)
    config = content.config or get_config(name)
    if name not in (_DEFAULT_NAME, config.name):
        raise CheckpointError(f"{path} holds preset {config.name!r}, not {name!r}: pass that name")
    model = build_model(config)
    load_strictly(model, content.state, str(path))
    model.eval()
    model_hash(model)
    if dtype != torch.float32:
        model.backbone.to(dtype)
        model.backbone.register_forward_hook(_to_float32)
    return model.to(device)


def _to_float32(_module: nn.Module, _inputs: Any, maps: list[Tensor]) -> list[Tensor]:
    """Hand the maps of a half-precision backbone on in float32."""
    return [feature_map.float() for feature_map in maps]


def _device(device: str | torch.device) -> torch.device:
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: {error}") from error
    if (chosen.type == "cuda" and not cuda) or (chosen.type == "mps" and not mps):
        available = [name for name, there in (("cuda", cuda), ("mps", mps)) if there]
        raise ValueError(
            f"device {str(device)!r} is not available here; there is: "
            f"{', '.join([*available, 'cpu'])}"
        )
    if str(chosen) == "cuda":
        chosen = torch.device("cuda", torch.cuda.current_device())
    return chosen


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    allowed = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    chosen = allowed.get(str(dtype).removeprefix("torch."))
    if chosen is None:
        raise ValueError(f"dtype must be one of {', '.join(allowed)} or None, got {dtype!r}")
    return chosen


def model_hash(model: DynaMITe) -> str:
    """Return the SHA-256 of the weights, hexadecimal, and keep it as ``model.checkpoint_hash``.

    The same for the same values of the same type, wherever they are and came from.
    """
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key}:{tuple(value.shape)}:{value.dtype};".encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy())
    hashed = digest.hexdigest()
    model.checkpoint_hash = hashed  # type: ignore[assignment]
    return hashed
