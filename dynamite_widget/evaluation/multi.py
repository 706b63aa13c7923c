"""Makes a multi-instance predictor of a single-instance one, as the paper does for its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..session import Click
from .predictors import EvaluationPredictor, predict_label_map


@dataclass
class _State:
    """Masks of every instance after a list of clicks, and the clicks each instance has seen."""

    seen: dict[int, tuple[Click, ...]]
    masks: dict[int, NDArray[np.bool_]]
    recent: tuple[int, ...]  # instances by the time of their last change, the latest last


@dataclass
class _Embedding:
    inner: Any
    shape: tuple[int, int]
    states: dict[tuple[Click, ...], _State] = field(default_factory=dict)


class MultiInstanceAdapter:
    """Segments objects one after another with a single-instance predictor and merges the masks.

    A click on instance k is a foreground click of k and a background click of exactly those other
    instances whose mask covers it at that time (it was placed because of their error); a background
    click is one for the instances whose mask covers it. Only the instances concerned are predicted
    again. Where masks overlap, the instance that was predicted last wins.

    Parameters
    ----------
    predictor : EvaluationPredictor
        Is asked for instance 1; its clicks carry instance 1 or 0.

    Notes
    -----
    Paper, section 4 (MIST baseline). Its next object is the one of best IoU: strategy "best".
    """

    def __init__(self, predictor: EvaluationPredictor) -> None:
        self._predictor = predictor

    def embed(self, image: NDArray[np.uint8]) -> _Embedding:
        """Embed with the wrapped predictor."""
        return _Embedding(self._predictor.embed(image), image.shape[:2])

    def predict(
        self, embedding: _Embedding, clicks: Sequence[Click], instances: Sequence[int]
    ) -> NDArray[np.int32]:
        """Return the merged label map."""
        state = self._state(embedding, tuple(clicks))
        label_map = np.zeros(embedding.shape, np.int32)
        for instance in state.recent:
            if instance in instances:
                label_map[state.masks[instance]] = instance
        return label_map

    def _state(self, embedding: _Embedding, clicks: tuple[Click, ...]) -> _State:
        known = len(clicks)
        while known and clicks[:known] not in embedding.states:
            known -= 1
        state = embedding.states[clicks[:known]] if known else _State({}, {}, ())
        for index in range(known, len(clicks)):
            state = self._add(embedding, state, clicks[index])
            embedding.states[clicks[: index + 1]] = state
        return state

    def _add(self, embedding: _Embedding, state: _State, click: Click) -> _State:
        concerned = [
            instance
            for instance, mask in state.masks.items()
            if instance != click.instance and mask[click.y, click.x]
        ]
        if click.instance:
            concerned.append(click.instance)  # last, so that it owns the pixel it was clicked on
        seen, masks = dict(state.seen), dict(state.masks)
        for instance in concerned:
            seen[instance] = (*seen.get(instance, ()), click)
            own = [
                Click(x=c.x, y=c.y, instance=int(c.instance == instance), t=c.t)
                for c in seen[instance]
            ]
            prediction = predict_label_map(
                self._predictor, embedding.inner, own, (1,), embedding.shape
            )
            masks[instance] = prediction == 1
        rest = tuple(instance for instance in state.recent if instance not in concerned)
        return _State(seen, masks, (*rest, *concerned))
