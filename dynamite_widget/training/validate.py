"""A light look at progress during training: IoU after 1, 3 and 5 robot clicks, single objects.

At network resolution and on few pictures; the protocols proper are in `dynamite_widget.evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from dynamite_widget.model.config import ModelConfig
from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.training.clicks import Clicks, object_ious, robot_click
from dynamite_widget.training.data import InstanceDataset
from dynamite_widget.training.step import click_tensors, predicted_label_maps

CLICKS = 5


@dataclass(frozen=True)
class Example:
    """One picture to validate on: network input and the instances to segment one by one."""

    source: str
    pixels: NDArray[np.uint8]
    masks: tuple[NDArray[np.bool_], ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def choose_examples(
    data: InstanceDataset,
    config: ModelConfig,
    *,
    pictures: int,
    per_picture: int = 2,
    min_fraction: float = 0.005,
    long_side: int | None = None,
) -> list[Example]:
    """Choose pictures in turn over the sources, and of each the first instances that are not tiny.

    Parameters
    ----------
    data : InstanceDataset
        Validation data.
    config : ModelConfig
        Its resize rule applies unless `long_side` is given.
    pictures, per_picture : int
        At most so many.
    min_fraction : float
        Smallest share of the picture that an instance may have.
    long_side : int, optional
        Long side in pixels.
    """
    queues = [list(indices) for indices in data.by_source.values()]
    order = [q[i] for i in range(max(map(len, queues))) for q in queues if i < len(q)]
    examples: list[Example] = []
    for index in order:
        if len(examples) == pictures:
            break
        record = data.pictures[index]
        least = min_fraction * record.height * record.width
        wanted = [k for k, area in enumerate(record.areas, 1) if area >= least]
        # spread over the sizes, which are in descending order
        wanted = wanted[:: max(1, len(wanted) // per_picture)][:per_picture]
        if not wanted:
            continue
        side = long_side or config.max_long_side
        scale = side / max(record.height, record.width)
        if long_side is None and config.short_side is not None:
            scale = min(config.short_side / min(record.height, record.width), scale)
        width, height = round(record.width * scale), round(record.height * scale)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = cv2.resize(data.picture(index), (width, height), interpolation=method)
        label_map = data.label_map(index)
        label_map = cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST)
        masks = tuple(label_map == k for k in wanted)
        masks = tuple(mask for mask in masks if mask.any())
        if masks:
            examples.append(Example(record.source, np.asarray(pixels, np.uint8), masks))
    return examples


def network_input(pixels: NDArray[np.uint8], config: ModelConfig) -> torch.Tensor:
    """(1, 3, Hp, Wp): normalised and zero-padded to multiples of 32."""
    mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
    tensor = ((torch.from_numpy(pixels).float() - mean) / std).permute(2, 0, 1)[None]
    height, width = pixels.shape[:2]
    return F.pad(tensor, (0, -width % 32, 0, -height % 32))


@torch.no_grad()
def segment(
    model: DynaMITe, prepared: Any, clicks: Sequence[Clicks], count: int, size: tuple[int, int]
) -> list[NDArray[np.uint8]]:
    """Label maps of one picture for several sets of clicks with `count` instances each."""
    padded = prepared.padded_size
    maps = []
    for one in clicks:
        decoded = model.decode_clicks(prepared, [click_tensors(one)])
        label_map = predicted_label_maps(decoded.final, [count], padded)[0]
        maps.append(label_map[: size[0], : size[1]])
    return maps


@torch.no_grad()
def validate(model: DynaMITe, examples: Sequence[Example]) -> dict[str, Any]:
    """Robot clicks on every instance by itself.

    Returns
    -------
    dict
        ``iou`` (mean IoU after 1 … 5 clicks), ``iou_by_source`` (after 3, mean per source),
        ``source_mean`` (of those), ``score`` (mean over the clicks; the best weights are kept by
        it), ``instances`` (how many).
    """
    model.eval()
    curves: list[tuple[str, list[float]]] = []
    for example in examples:
        pixels = network_input(example.pixels, model.config).to(model.device)
        prepared = model.prepare(model.encode_image(pixels))
        size = example.size
        for mask in example.masks:
            predicted = np.zeros(size, np.uint8)
            clicks, curve = Clicks.build([]), list[float]()
            for _ in range(CLICKS):
                click = robot_click(predicted, mask, clicks)
                if click is None:
                    curve.append(curve[-1] if curve else 0.0)
                    continue
                clicks = clicks.then([click])
                predicted = segment(model, prepared, [clicks], 1, size)[0]
                curve.append(float(object_ious(predicted, mask.astype(np.uint8))[0]))
            curves.append((example.source, curve))
    table = np.array([curve for _, curve in curves])
    sources: dict[str, list[float]] = {}
    for source, curve in curves:
        sources.setdefault(source, []).append(curve[2])
    by_source = {source: float(np.mean(values)) for source, values in sources.items()}
    return {
        "iou": [float(v) for v in table.mean(axis=0)],
        "iou_by_source": by_source,
        "source_mean": float(np.mean(list(by_source.values()))),
        "score": float(table.mean()),
        "instances": len(curves),
    }
