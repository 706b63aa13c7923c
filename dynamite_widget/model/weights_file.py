"""Weights files: our own safetensors, and the authors' pickled checkpoints, read safely.

No code from a file is ever executed. Which file belongs to which name is the business of
`dynamite_widget.model.checkpoints`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamite_widget.errors import CheckpointError
from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.dynamite import DynaMITe

__all__ = ["Checkpoint", "read_checkpoint", "save_checkpoint"]

_FORMAT = "dynamite-widget"
_ZIP_MAGIC = b"PK\x03\x04"
# First three objects of torch's oldest file format; see `_load_pickle`.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LEGACY_SYSTEM = {"protocol_version": _LEGACY_PROTOCOL, "little_endian": True, "type_sizes": {}}


@dataclass(frozen=True)
class Checkpoint:
    """Content of a weights file.

    Parameters
    ----------
    state : dict of str to Tensor
        Entries in the naming of the file, on the CPU.
    config : ModelConfig or None
        Configuration that the file states (our own files do).
    metadata : dict
        What `save_checkpoint` was given.
    """

    state: dict[str, Tensor]
    config: ModelConfig | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a weights file without executing anything in it.

    Parameters
    ----------
    path : path
        safetensors, a ``torch.save`` file, or a pickle of NumPy arrays; told apart by content. In
        pickled files the entries may be under the key "model"; other keys are ignored.

    Raises
    ------
    CheckpointError
        If the file is damaged, holds no weights, or needs any Python object other than tensors,
        arrays and plain containers.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if start[8:9] == b"{":
        return _read_safetensors(path)
    try:
        content = _load_torch(path) if start.startswith(_ZIP_MAGIC) else _load_pickle(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it is damaged or contains Python objects other than weights, "
            f"which could run code when loaded ({_reason(error)})"
        ) from error
    except Exception as error:
        # Damaged files make torch raise almost anything; all of it means the same here.
        raise CheckpointError(
            f"{path} is not a checkpoint, or it is damaged ({_reason(error)})"
        ) from error
    return Checkpoint(_entries(content, path))


def _reason(error: Exception) -> str:
    """Return the first line of a message; of torch's long refusals the line that says why."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return next(iter(telling or lines), type(error).__name__)[:200]


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        stated = header.pop("config", None)
        config = None if stated is None else ModelConfig.from_dict(json.loads(stated))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a checkpoint, or it is damaged ({error})") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} states a configuration that this version does not know ({error!r}); it may "
            "have been saved by a newer dynamite-widget"
        ) from error
    return Checkpoint(state, config, {key: _plain(text) for key, text in header.items()})


def _plain(text: str) -> Any:
    """Value of a metadata entry: JSON where it is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _load_torch(file: Any) -> Any:
    with _numpy_allowed(), warnings.catch_warnings():
        # That it may not know every instruction of newer pickles: then it refuses them.
        warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
        return torch.load(file, map_location="cpu", weights_only=True)


def _load_pickle(path: Path) -> Any:
    """Load a file of torch's oldest format, or a bare pickle of arrays.

    torch reads a bare pickle, with its restricted unpickler, when the three objects that begin
    its oldest format come first and an empty list of storages last. (It knows the instructions of
    pickle protocols up to 3, and refuses others.)
    """
    data = path.read_bytes()
    magic = pickle.dumps(_LEGACY_MAGIC, protocol=2)[:-1]
    if not data.startswith(magic):
        head = (_LEGACY_MAGIC, _LEGACY_PROTOCOL, _LEGACY_SYSTEM)
        before = b"".join(pickle.dumps(item, protocol=2) for item in head)
        data = before + data + pickle.dumps([], protocol=2)
    return _load_torch(io.BytesIO(data))


@contextlib.contextmanager
def _numpy_allowed() -> Iterator[None]:
    """Let the restricted unpickler rebuild NumPy arrays and scalars of plain numbers, for a while.

    Without `safe_globals` (torch 2.4) such files are refused.
    """
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:
        yield
        return
    core: Any = getattr(np, "_core", None) or np.core
    allowed: list[Any] = [np.ndarray, np.dtype, bytes]
    allowed += [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]
    for function in (core.multiarray._reconstruct, core.multiarray.scalar):
        # The module was renamed in NumPy 2; files know either name.
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            allowed.append((function, f"{module}.{function.__name__}"))
    with safe_globals(allowed):
        yield


def _entries(content: Any, path: Path) -> dict[str, Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
            value = torch.from_numpy(np.array(value))
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path} is not a state dict: entry {key!r} is a {type(value).__name__}"
            )
        state[str(key)] = value
    if not state:
        raise CheckpointError(f"{path} holds no weights")
    return state


def save_checkpoint(
    model: DynaMITe,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    half: bool = False,
) -> Path:
    """Write the weights and the configuration of `model` as safetensors, in one step.

    Parameters
    ----------
    model : DynaMITe
        Any device and dtype.
    path : path
        File to write or replace; a reader sees the old file or the new one, never a part.
    metadata : mapping, optional
        Facts to keep with the weights (scores, step, date …), as JSON can express them.
    half : bool
        Store matrices and kernels as float16, half the size; vectors stay float32.

    Returns
    -------
    Path
        `path`.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        if value.is_floating_point():
            value = value.to(torch.float16 if half and value.ndim > 1 else torch.float32)
        state[key] = value
    header = {key: json.dumps(value, sort_keys=True) for key, value in (metadata or {}).items()}
    header["format"] = _FORMAT
    header["config"] = json.dumps(model.config.to_dict(), sort_keys=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        save_file(state, temporary, header)
        # mkstemp makes private files; weights get the usual rights.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
