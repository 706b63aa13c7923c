"""Small sets of pictures and annotators of them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from kernel_fakes import FakePredictor
from PIL import Image

from dynamite_widget.annotator import DatasetAnnotator

HEIGHT, WIDTH = 20, 30


def make_pictures(folder: Path, names: str = "a.png b.png c.png d.png") -> Path:
    for number, name in enumerate(names.split()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def annotate(folder: Path, names: str = "a.png b.png c.png d.png", **options: Any) -> Any:
    """Return an annotator of new pictures in `folder`, or of those that are there already."""
    pictures = folder / "pictures"
    if not pictures.exists():
        make_pictures(pictures, names)
    options.setdefault("predictor", FakePredictor())
    options.setdefault("classes", ["cat", "dog"])
    return DatasetAnnotator(options.pop("source", pictures), folder / "out", **options)
