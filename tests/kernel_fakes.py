"""A predictor without a network: every pixel goes to the nearest click. Fast and deterministic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session import Click


@dataclass(frozen=True)
class FakeEmbedding:
    height: int
    width: int
    nbytes: int = 1000


class FakePredictor:
    """Nearest click decides; can be told to block, to fail, and counts what it does."""

    device = "cpu"
    checkpoint_hash = "fake"

    def __init__(self) -> None:
        self.embedded = 0
        self.predicted: list[tuple[Click, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failures: list[Exception] = []
        self.embed_failures: list[Exception] = []
        self.previews_asked = 0

    def embed(self, image: np.ndarray) -> FakeEmbedding:
        self.embedded += 1
        if self.embed_failures:
            raise self.embed_failures.pop(0)
        return FakeEmbedding(image.shape[0], image.shape[1])

    def predict(
        self,
        embedding: FakeEmbedding,
        clicks: Sequence[Click],
        instances: Any = None,
        on_preview: Callable[[Segmentation], object] | None = None,
    ) -> Segmentation:
        height, width = embedding.height, embedding.width
        if on_preview is not None and any(click.instance for click in clicks):
            self.previews_asked += 1
            on_preview(nearest_click(height, width, clicks[:1], instances))
        self.entered.set()
        assert self.gate.wait(30)
        self.predicted.append(tuple(clicks))
        if self.failures:
            raise self.failures.pop(0)
        return nearest_click(height, width, clicks, instances)


def nearest_click(
    height: int, width: int, clicks: Sequence[Click], instances: Any = None
) -> Segmentation:
    """Label every pixel with the instance of the nearest click (the newest of equally near)."""
    labels = np.zeros((height, width), np.int32)
    if any(click.instance for click in clicks):
        ys, xs = np.mgrid[:height, :width]
        best = np.full((height, width), np.inf)
        for click in clicks:
            distance = (ys - click.y) ** 2 + (xs - click.x) ** 2
            closer = distance <= best
            best[closer] = distance[closer]
            labels[closer] = click.instance
    return Segmentation.from_label_map(labels, instances)
