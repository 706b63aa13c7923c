"""Random pictures for the round trips: holes, parts, single pixels, touching, empty ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from dynamite_widget.export import AnnotatedPicture

CLASSES = ("cat", "Bär & <Söhne>", "杯子")


def random_labels(seed: int, height: int, width: int, count: int, kind: str) -> np.ndarray:
    """Label map with ids up to `count`; some may own no pixel."""
    rng = np.random.default_rng(seed)
    if kind == "noise":  # thousands of parts, single pixels, holes, everything touches
        return rng.integers(0, count + 1, (height, width)).astype(np.int32)
    labels = np.zeros((height, width), np.int32)
    for instance in range(1, count + 1):
        y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
        h, w = (int(v) for v in rng.integers(1, max(2, height // 2), 2))
        labels[y : y + h, x : x + w] = instance
        if rng.random() < 0.4:
            labels[y + 1 : y + h - 1, x + 1 : x + w - 1] = 0
    labels[rng.random((height, width)) < 0.02] = 0
    return labels


def picture_of(labels: np.ndarray, count: int, name: str = "ein Bild.png") -> AnnotatedPicture:
    names = {i: CLASSES[i % 3] for i in range(1, count + 1)}
    return AnnotatedPicture.from_label_map(labels, names, name, classes=CLASSES)


def with_image(picture: AnnotatedPicture, folder: Path) -> Path:
    """Write a picture of the right size, for formats that do not know it."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((picture.height, picture.width, 3), np.uint8)
    Image.fromarray(pixels).save(folder / picture.name)
    return folder


pictures = st.builds(
    lambda seed, height, width, count, kind: picture_of(
        random_labels(seed, height, width, count, kind), count
    ),
    st.integers(0, 2**32 - 1),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(0, 9),
    st.sampled_from(["boxes", "noise"]),
)
