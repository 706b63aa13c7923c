"""Batches: crops, initial clicks and loss points, made in worker processes in a fixed order.

Sample i of a run is a pure function of (data, configuration, i). Hence the data position of a run
is one integer, and neither resuming nor the number of workers or processes changes the data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dynamite_widget.training.augment import make_crop
from dynamite_widget.training.clicks import Clicks, initial_clicks
from dynamite_widget.training.config import TrainConfig
from dynamite_widget.training.data import InstanceDataset


@dataclass(frozen=True)
class Item:
    """One sample: crop, clicks, loss points (see `Batch`)."""

    number: int
    pixels: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    clicks: Clicks
    points: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Attributes
    ----------
    numbers : list of int
        Sample numbers of the run.
    pixels : Tensor
        (B, S, S, 3) uint8 RGB.
    label_map : Tensor
        (B, S, S) uint8, 0 background, 1..n objects.
    valid : Tensor
        (B, S, S) bool, False on padding.
    clicks : list of Clicks
        Initial clicks.
    points : Tensor
        (B, P, 2) float32 x and y in [0, 1): where a ``"shared"`` loss looks. P may be 0.
    """

    numbers: list[int]
    pixels: Tensor
    label_map: Tensor
    valid: Tensor
    clicks: list[Clicks]
    points: Tensor

    @property
    def counts(self) -> list[int]:
        """Objects of each crop."""
        return [int(n) for n in self.label_map.flatten(1).amax(dim=1)]


def loss_points(
    label_map: NDArray[Any], uniform: int, boundary: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw points for the loss: spread evenly, and scattered along the outlines of the objects.

    Parameters
    ----------
    label_map : (H, W) integer
        The truth.
    uniform, boundary : int
        Number of points of each kind.

    Returns
    -------
    (uniform + boundary, 2) float32
        x and y in [0, 1), shuffled, so that any leading part is a fair sample.
    """
    height, width = label_map.shape
    points = rng.random((uniform + boundary, 2), dtype=np.float32)
    if boundary:
        edges = np.zeros(label_map.shape, bool)
        edges[1:] |= label_map[1:] != label_map[:-1]
        edges[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
        flat = np.flatnonzero(edges)
        if len(flat):
            chosen = flat[rng.integers(0, len(flat), boundary)]
            at = np.stack([chosen % width, chosen // width], axis=1)
            scattered = at + rng.normal(0.0, 2.5, (boundary, 2))
            points[uniform:] = scattered / (width, height)
    np.clip(points, 0.0, 1.0 - 1e-6, out=points)
    return points[rng.permutation(len(points))]


class CropSource(Dataset[Item]):
    """Maps a sample number of the run to its sample."""

    def __init__(self, data: InstanceDataset, config: TrainConfig) -> None:
        self.data, self.config = data, config

    def __getitem__(self, number: int) -> Item:
        config = self.config
        side = config.crop_side(number // config.batch_size)
        crop, rng = make_crop(self.data, config.augment, side, config.seed, number)
        clicks = initial_clicks(crop.label_map, crop.valid, rng, config.clicks)
        points = np.zeros((0, 2), np.float32)
        if config.loss.sampling == "shared":
            points = loss_points(
                crop.label_map, config.loss.points, config.loss.boundary_points, rng
            )
        return Item(number, crop.pixels, crop.label_map, crop.valid, clicks, points)


def collate(items: list[Item]) -> Batch:
    """Stack samples of equal crop size."""
    return Batch(
        [item.number for item in items],
        torch.from_numpy(np.stack([item.pixels for item in items])),
        torch.from_numpy(np.stack([item.label_map for item in items])),
        torch.from_numpy(np.stack([item.valid for item in items])),
        [item.clicks for item in items],
        torch.from_numpy(np.stack([item.points for item in items])),
    )


class _Steps(Sampler[list[int]]):
    """Sample numbers of the steps [first, last) that belong to one process."""

    def __init__(self, first: int, last: int, global_batch: int, process: int, processes: int):
        if global_batch % processes:
            raise ValueError(
                f"batch_size {global_batch} is not a multiple of the {processes} processes"
            )
        self.first, self.last, self.global_batch = first, last, global_batch
        self.size = global_batch // processes
        self.offset = process * self.size

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            start = step * self.global_batch + self.offset
            yield list(range(start, start + self.size))

    def __len__(self) -> int:
        return max(0, self.last - self.first)


def batches(
    data: InstanceDataset,
    config: TrainConfig,
    *,
    first: int,
    last: int,
    workers: int,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Yield the batches of steps [first, last) for one of several processes, in order."""
    sampler = _Steps(first, last, config.batch_size, process, processes)
    options: dict[str, Any] = {}
    if workers:
        # OpenCV's thread pool does not survive a fork: the first use of it in the child hangs.
        # This ends the pool; one thread per worker is what we want anyway.
        cv2.setNumThreads(0)
        # A forked worker shares the annotations for nothing; elsewhere they are sent once.
        context = "fork" if sys.platform == "linux" else "spawn"
        options = {
            "prefetch_factor": max(2, 8 // workers),
            "multiprocessing_context": context,
        }
    loader: DataLoader[Item] = DataLoader(
        CropSource(data, config),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        **options,
    )
    yield from loader  # type: ignore[misc]
