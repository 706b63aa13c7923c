"""Small synthetic data for the training tests: a few pictures with discs and boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dynamite_widget.training.data import InstanceDataset, read_annotations
from dynamite_widget.training.pictures import PictureStore


def encoded_mask(mask):
    """Compressed RLE of a mask, as text."""
    from pycocotools import mask as rle

    packed = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(v) for v in packed["size"]], "counts": packed["counts"].decode("ascii")}


def write_data(folder: Path, pictures: int = 6, size: tuple[int, int] = (72, 96)) -> Path:
    """Write pictures and ``train.json`` into `folder`; two sources, two or three instances each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, pictures + 1):
        picture = rng.integers(60, 120, (height, width, 3)).astype(np.uint8)
        for _ in range(2 + number % 2):
            cy, cx = rng.integers(15, height - 15), rng.integers(15, width - 15)
            radius = rng.integers(8, 15)
            disc = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
            picture[disc] = rng.integers(0, 255, 3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": encoded_mask(disc),
                }
            )
        name = f"picture_{number:02d}.png"
        cv2.imwrite(str(folder / name), picture)
        source = "even" if number % 2 == 0 else "odd"
        images.append(
            {"id": number, "file_name": name, "height": height, "width": width, "source": source}
        )
    content = {"images": images, "annotations": annotations}
    (folder / "train.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def open_data(folder: Path) -> InstanceDataset:
    """Open what `write_data` wrote."""
    return InstanceDataset(read_annotations(folder / "train.json"), PictureStore([folder]))
