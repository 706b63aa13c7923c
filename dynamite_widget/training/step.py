"""One training step: encode once, correct the clicks in rounds, decode with gradient, loss.

All of it is the ``forward`` of one module, so that wrappers for several processes see a single
forward per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dynamite_widget.model.dynamite import DynaMITe
from dynamite_widget.model.structures import ClickTensors, Prediction
from dynamite_widget.training.augment import sample_rng
from dynamite_widget.training.batches import Batch
from dynamite_widget.training.clicks import Clicks, corrective_clicks, object_ious
from dynamite_widget.training.config import TrainConfig
from dynamite_widget.training.losses import Targets, fuse_by_instance, segmentation_loss

# Last element of the paths of `sample_rng`: who draws. Crops use the attempt number, below 50.
_ROUND, _POINTS, _STEP = 1000, 2000, 3000


@dataclass(frozen=True)
class StepResult:
    """What a step returns.

    Attributes
    ----------
    loss : Tensor
        Scalar with gradient.
    terms : dict of Tensor
        Weighted loss terms, detached.
    predicted : (B, S, S) uint8 array or None
        Final label maps, where asked for.
    clicks : list of Clicks
        All clicks that the final prediction had.
    first_iou, last_iou : float
        Mean IoU of the objects before the corrections and in the end (NaN when not measured).
    """

    loss: Tensor
    terms: dict[str, Tensor]
    predicted: NDArray[np.uint8] | None
    clicks: list[Clicks]
    first_iou: float
    last_iou: float


def draw_rounds(config: TrainConfig, step: int) -> int:
    """Draw the number of corrective rounds of a step: the same in every process."""
    rng = sample_rng(config.seed, step, _STEP)
    weights = np.cumsum(config.rounds)
    return int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))


def click_tensors(clicks: Clicks) -> ClickTensors:
    """Clicks as the network wants them."""
    return ClickTensors(
        torch.from_numpy(clicks.yx), torch.from_numpy(clicks.t), torch.from_numpy(clicks.instance)
    )


def predicted_label_maps(
    prediction: Prediction, counts: Sequence[int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Label maps (B, H, W) at crop resolution: resize, then the best instance or background."""
    with torch.no_grad():
        fused, _ = fuse_by_instance(prediction, counts)
        logits = F.interpolate(fused, size, mode="bilinear", align_corners=False)
        # A running maximum; argmax over a strided axis is far slower on a CPU.
        best = logits[:, 0]
        label_map = torch.ones(best.shape, dtype=torch.uint8, device=best.device)
        for channel in range(1, logits.shape[1]):
            label = 0 if channel == logits.shape[1] - 1 else channel + 1
            label_map.masked_fill_(logits[:, channel] > best, label)
            best = torch.maximum(best, logits[:, channel])
    return np.asarray(label_map.cpu().numpy())


def _mean_iou(predicted: NDArray[np.uint8], batch: Batch) -> float:
    truth, valid = batch.label_map.numpy(), batch.valid.numpy()
    ious = [object_ious(*maps) for maps in zip(predicted, truth, valid, strict=True)]
    return float(np.concatenate(ious).mean())


class TrainingStep(nn.Module):
    """The network with its loss.

    Parameters
    ----------
    model : DynaMITe
        The network to train.
    config : TrainConfig
        The run.
    """

    def __init__(self, model: DynaMITe, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        mean, std = model.config.pixel_mean, model.config.pixel_std
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def normalise(self, batch: Batch) -> Tensor:
        """(B, 3, S, S) float32 network input."""
        device = self.mean.device
        pixels = (batch.pixels.to(device).permute(0, 3, 1, 2).float() - self.mean) / self.std
        if self.config.zero_padding:
            pixels = pixels * batch.valid.to(device)[:, None]
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        return pixels.contiguous(memory_format=layout)

    def forward(
        self, batch: Batch, rounds: int, normaliser: float | None = None, measure: bool = False
    ) -> StepResult:
        """Run one step on one process's share of the batch.

        Parameters
        ----------
        batch : Batch
            Samples.
        rounds : int
            Rounds of corrective clicks.
        normaliser : float, optional
            Mean number of maps over the processes.
        measure : bool
            Also compute IoUs and return the final label maps.
        """
        counts = batch.counts
        size = (int(batch.label_map.shape[1]), int(batch.label_map.shape[2]))
        features = self.model.encode_image(self.normalise(batch))
        prepared = self.model.prepare(features)
        clicks, first_iou = list(batch.clicks), float("nan")
        if rounds:
            with torch.no_grad():
                cut = prepared.detach()
                for number in range(rounds):
                    decoded = self.model.decode_clicks(cut, [click_tensors(c) for c in clicks])
                    predicted = predicted_label_maps(decoded.final, counts, size)
                    if measure and number == 0:
                        first_iou = _mean_iou(predicted, batch)
                    clicks = self._correct(batch, predicted, clicks, number)
        decoded = self.model.decode_clicks(
            prepared, [click_tensors(c) for c in clicks], all_predictions=True
        )
        loss, terms = segmentation_loss(
            decoded,
            self._targets(batch, counts),
            self.config.loss,
            clicks=[torch.from_numpy(c.yx) for c in clicks],
            normaliser=normaliser,
        )
        final, last_iou = None, float("nan")
        if measure:
            final = predicted_label_maps(decoded.final, counts, size)
            last_iou = _mean_iou(final, batch)
            first_iou = first_iou if rounds else last_iou
        return StepResult(loss, terms, final, clicks, first_iou, last_iou)

    def _correct(
        self, batch: Batch, predicted: NDArray[np.uint8], clicks: list[Clicks], number: int
    ) -> list[Clicks]:
        truth, valid = batch.label_map.numpy(), batch.valid.numpy()
        return [
            corrective_clicks(
                predicted[i],
                truth[i],
                valid[i],
                clicks[i],
                sample_rng(self.config.seed, batch.numbers[i], _ROUND + number),
                self.config.clicks,
            )
            for i in range(len(clicks))
        ]

    def _targets(self, batch: Batch, counts: list[int]) -> Targets:
        device = self.mean.device
        generators = []
        for number in batch.numbers:
            generator = torch.Generator()
            rng = sample_rng(self.config.seed, number, _POINTS)
            generators.append(generator.manual_seed(int(rng.integers(2**62))))
        return Targets(
            batch.label_map.to(device),
            batch.valid.to(device),
            counts,
            batch.points.to(device),
            generators,
        )
