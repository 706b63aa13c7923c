"""Getting at a network without importing torch before it is needed, and what identifies it."""

from __future__ import annotations

import inspect
import threading
from typing import Any

from .embedding_cache import Key
from .picture import Picture

_loading = threading.Lock()


def make_predictor(model: str, checkpoint: Any, device: str) -> Any:
    """Load the network called `model` and wrap it; the arguments are those of `load_model`."""
    # Imported here, on the model thread: torch takes seconds, and the widget shows at once.
    from .model.checkpoints import load_model
    from .model.predictor import Predictor

    with _loading:
        return Predictor(load_model(model, checkpoint=checkpoint, device=device))


def model_name(predictor: Any) -> str:
    """Return the name of a predictor's network, or what it is otherwise."""
    config = getattr(getattr(predictor, "model", None), "config", None)
    return str(getattr(config, "name", type(predictor).__name__))


def checkpoint_hash(predictor: Any) -> str:
    """Return the hash of the weights of a predictor; a name of its own when it does not say."""
    for holder in (predictor, getattr(predictor, "model", None)):
        value = getattr(holder, "checkpoint_hash", None)
        if isinstance(value, str) and value:
            return value
    return f"unknown-{id(predictor)}"


def takes_argument(function: Any, name: str) -> bool:
    """Tell whether a method of a predictor, perhaps one that a person wrote, knows an argument."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def embedding_key(picture: Picture, predictor: Any) -> Key:
    """Return what an embedding is a function of: picture; weights, device and precision."""
    model = getattr(predictor, "model", None)
    parameters = getattr(model, "parameters", None)
    dtype = next((str(p.dtype) for p in parameters()), "") if callable(parameters) else ""
    dtype = getattr(predictor, "precision", dtype)
    device = getattr(predictor, "device", "")
    return picture.hash, f"{checkpoint_hash(predictor)}|{device}|{dtype}"
