"""Predictors without a network, imported by notebooks of the browser tests.

Only for what the bundled model cannot be asked for: failing, being slow on purpose, being exact.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dynamite_widget.segmentation import Segmentation
from dynamite_widget.session import Click


@dataclass(frozen=True)
class Size:
    """Stands in for an embedding."""

    height: int
    width: int
    nbytes: int = 16


@dataclass
class Discs:
    """A disc around every click; those of background clicks cut holes.

    Parameters
    ----------
    radius : int
        In pixels of the picture.
    delay_s : float
        How long a prediction takes; half of that passes before discs of half the radius are shown.
    failures : list of Exception
        Raised one after the other by the next predictions.
    """

    radius: int = 40
    delay_s: float = 0.0
    failures: list[Exception] = field(default_factory=list)
    device: str = "cpu"
    checkpoint_hash: str = "discs"

    def embed(self, image: np.ndarray) -> Size:
        return Size(image.shape[0], image.shape[1])

    def predict(
        self,
        embedding: Size,
        clicks: Sequence[Click],
        instances: Any = None,
        on_preview: Callable[[Segmentation], object] | None = None,
    ) -> Segmentation:
        time.sleep(self.delay_s / 2)
        if on_preview is not None:
            on_preview(self._discs(embedding, clicks, instances, self.radius // 2))
        time.sleep(self.delay_s / 2)
        if self.failures:
            raise self.failures.pop(0)
        return self._discs(embedding, clicks, instances, self.radius)

    def _discs(
        self, embedding: Size, clicks: Sequence[Click], instances: Any, radius: int
    ) -> Segmentation:
        labels = np.zeros((embedding.height, embedding.width), np.int32)
        ys, xs = np.ogrid[: embedding.height, : embedding.width]
        for click in clicks:
            labels[(ys - click.y) ** 2 + (xs - click.x) ** 2 <= radius**2] = click.instance
        return Segmentation.from_label_map(labels, instances)


def coordinate_chart(height: int, width: int) -> bytes:
    """Return a PNG file whose colours say where one is: red is x / 4, green is y / 4.

    Blue holds the remainders, so a colour read from a magnified canvas names its pixel exactly.
    A file, because arrays may be sent as JPEG.
    """
    y, x = np.mgrid[:height, :width]
    chart = np.stack([x // 4, y // 4, (x % 4) * 16 + (y % 4) * 64], axis=-1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(chart).save(file, "png")
    return file.getvalue()
