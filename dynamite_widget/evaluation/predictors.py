"""The small protocol through which anything is evaluated, and adapters to it.

Classical methods live in `baselines`; loading our own network by name is `load_predictor`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..session import Click


class EvaluationPredictor(Protocol):
    """What can be evaluated: embed a picture once, predict after every click."""

    def embed(self, image: NDArray[np.uint8]) -> Any:
        """Return whatever `predict` needs of an RGB picture (H, W, 3) uint8."""
        ...

    def predict(self, embedding: Any, clicks: Sequence[Click], instances: Sequence[int]) -> Any:
        """Return an (H, W) integer label map, or an object with ``label_map``.

        `clicks` is in order of t and holds all clicks so far; `instances` are the objects
        asked for.
        """
        ...


class CallablePredictor:
    """Makes a predictor of a function ``function(image, clicks) -> label map``."""

    def __init__(
        self, function: Callable[[NDArray[np.uint8], Sequence[Click]], NDArray[np.integer]]
    ) -> None:
        self._function = function

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture itself."""
        return image

    def predict(
        self, embedding: NDArray[np.uint8], clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.integer]:
        """Call the function."""
        return self._function(embedding, clicks)


def predict_label_map(
    predictor: EvaluationPredictor,
    embedding: Any,
    clicks: Sequence[Click],
    instances: Sequence[int],
    shape: tuple[int, ...],
) -> NDArray[np.integer]:
    """Predict and check: an integer label map of the size of the picture.

    Raises
    ------
    TypeError
        If the predictor returns something that is no integer or boolean map.
    ValueError
        If its size is not that of the picture.
    """
    result = predictor.predict(embedding, tuple(clicks), instances=tuple(instances))
    label_map = np.asarray(getattr(result, "label_map", result))
    if label_map.dtype == np.bool_:
        label_map = label_map.astype(np.int32)
    if not np.issubdtype(label_map.dtype, np.integer):
        raise TypeError(
            f"{type(predictor).__name__}.predict returned {label_map.dtype} values; "
            "an integer label map (or an object with one as label_map) is expected"
        )
    if label_map.shape != tuple(shape):
        raise ValueError(
            f"{type(predictor).__name__}.predict returned shape {label_map.shape}, "
            f"the picture has {tuple(shape)}"
        )
    return label_map


def load_predictor(
    model: str = "lite",
    checkpoint: str | None = None,
    device: str = "auto",
    baseline: str | None = None,
    threads: int | None = None,
    multi_instance: bool = False,
) -> EvaluationPredictor:
    """Load what the command line names: a preset of ours, or a classical baseline.

    Parameters
    ----------
    model, checkpoint, device
        See `dynamite_widget.model.checkpoints.load_model`.
    baseline : str, optional
        See `baselines.make_baseline`; then `model` is not loaded.
    threads : int, optional
        CPU threads of the network.
    multi_instance : bool
        Wrap single-instance baselines so that they handle several objects.
    """
    if baseline is not None:
        from .baselines import make_baseline

        return make_baseline(baseline, multi_instance=multi_instance, device=device)
    import torch

    from ..model.checkpoints import load_model
    from ..model.predictor import Predictor

    if threads is not None:
        torch.set_num_threads(threads)
    network = load_model(model, checkpoint=checkpoint, device=device)
    predictor: EvaluationPredictor = Predictor(network, exact=True)
    return predictor
