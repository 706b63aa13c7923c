"""Point-sampled losses (ARCHITECTURE 6.4): mask, dice, and the softmax over instances.

Two ways of sampling: ``"paper"`` draws points per map by importance, as the published training
does; ``"shared"`` uses one set of points per picture for all maps and predictions, which is what
makes the softmax possible and a training step on a CPU affordable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dynamite_widget.model.structures import Decoded, Prediction

_ABSENT = -1e4


@dataclass(frozen=True)
class LossConfig:
    """Which points, and the weights of the terms.

    Attributes
    ----------
    sampling : {"paper", "shared"}
        See the module's description.
    points : int
        Points per map (``"paper"``) or uniform points per picture (``"shared"``).
    oversample, importance : float
        ``importance * points`` points are the least certain of ``oversample * points`` candidates.
        With ``"shared"`` they come on top of the others, from the final prediction only.
    boundary_points : int
        ``"shared"``: points per picture near the outlines of the objects.
    click_points : int
        ``"shared"``: points per picture near the clicks.
    auxiliary_points : int
        ``"shared"``: how many points the earlier predictions are judged at.
    mask, dice, softmax : float
        Weights of binary cross-entropy, dice and cross-entropy over instances and background.
    auxiliary : float
        Factor for all terms of earlier predictions.
    auxiliary_every : int
        Supervise every n-th earlier prediction (1 = all), counted from the last.
    click_weight, click_radius_px : float
        Points within about this distance of a click count ``1 + click_weight`` times.
    """

    sampling: Literal["paper", "shared"] = "paper"
    points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    boundary_points: int = 0
    click_points: int = 0
    auxiliary_points: int = 12544
    mask: float = 5.0
    dice: float = 5.0
    softmax: float = 0.0
    auxiliary: float = 1.0
    auxiliary_every: int = 1
    click_weight: float = 0.0
    click_radius_px: float = 8.0


PAPER_LOSS = LossConfig()


@dataclass(frozen=True)
class Targets:
    """Truth for a batch of B crops.

    Attributes
    ----------
    label_map : Tensor
        (B, H, W) uint8, 0 background, 1..n objects.
    valid : Tensor
        (B, H, W) bool, False on padding.
    counts : sequence of int
        Objects n of each crop.
    points : Tensor or None
        (B, P, 2) float32, x and y in [0, 1): the points of ``"shared"`` sampling.
    generators : sequence of torch.Generator
        One CPU generator per crop, for points drawn while the loss is computed.
    """

    label_map: Tensor
    valid: Tensor
    counts: Sequence[int]
    points: Tensor | None
    generators: Sequence[torch.Generator]

    @property
    def maps(self) -> int:
        """Objects and backgrounds of the batch: what the losses are averaged over."""
        return sum(self.counts) + len(self.counts)


def fuse_by_instance(prediction: Prediction, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Take the maximum over the channels of each instance, and over those of the background.

    Parameters
    ----------
    prediction : Prediction
        Logits (B, C, h, w) and the instance of each channel.
    counts : sequence of int
        Instances 1..n of each picture; every one must own a channel.

    Returns
    -------
    fused : (B, M + 1, h, w)
        Channel k - 1 is instance k, channel M the background; -1e4 for instances a picture lacks.
    present : (B, M + 1) bool
        Which channels exist.
    """
    return _fuse(prediction.logits.float(), prediction.channel_instance, counts)


def _fuse(values: Tensor, owners: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`fuse_by_instance` for (B, C, …) values of any trailing shape."""
    most = max(counts)
    groups: list[list[int]] = []
    present = torch.zeros(len(counts), most + 1, dtype=torch.bool)
    in_place = values.shape[1] == most + 1
    for row, (owner, count) in enumerate(zip(owners.tolist(), counts, strict=True)):
        for slot in range(most + 1):
            instance = 0 if slot == most else slot + 1
            group = [c for c, k in enumerate(owner) if k == instance] if instance <= count else []
            present[row, slot] = bool(group)
            in_place = in_place and group in ([], [slot])
            groups.append(group or [0])
    present = present.to(values.device)
    fused = values
    if not in_place:
        widest = max(len(group) for group in groups)
        # Short groups repeat their first channel; the maximum does not change and its gradient
        # still arrives at that one channel.
        index = torch.tensor([group + group[:1] * (widest - len(group)) for group in groups])
        index = index.view(len(counts), -1, *[1] * (values.ndim - 2)).to(values.device)
        gathered = values.gather(1, index.expand(-1, -1, *values.shape[2:]))
        grouped = gathered.unflatten(1, (most + 1, widest))
        fused = grouped[:, :, 0] if widest == 1 else grouped.max(dim=2).values
    if not bool(present.all()):
        fused = fused.masked_fill(~present.view(*present.shape, *[1] * (fused.ndim - 2)), _ABSENT)
    return fused, present


def sample_at(maps: Tensor, points: Tensor, padding: str = "zeros") -> Tensor:
    """Bilinear samples of (N, C, h, w) maps at (N, P, 2) points, x and y in [0, 1): (N, C, P)."""
    grid = 2.0 * points[:, None] - 1.0
    return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)[:, :, 0]


def mask_and_dice(logits: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return sums over maps of mean BCE and of dice for (N, P) logits, targets and weights."""
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    if weights is None:
        mask = bce.mean(dim=1)
        overlap = (probability * targets).sum(dim=1)
        total = probability.sum(dim=1) + targets.sum(dim=1)
    else:
        mask = (bce * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)
        overlap = (probability * targets * weights).sum(dim=1)
        total = ((probability + targets) * weights).sum(dim=1)
    return mask.sum(), (1.0 - (2.0 * overlap + 1.0) / (total + 1.0)).sum()


def _importance_points(maps: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """Points per map: the least certain of many candidates, and some uniform ones (N, P, 2)."""
    important = int(config.importance * config.points)
    candidates_per_map = int(config.oversample * config.points)
    candidates, fresh = [], []
    for count, generator in zip(targets.counts, targets.generators, strict=True):
        candidates.append(torch.rand(count + 1, candidates_per_map, 2, generator=generator))
        rest = config.points - important
        fresh.append(torch.rand(count + 1, rest, 2, generator=generator))
    drawn = torch.cat(candidates).to(maps.device)
    with torch.no_grad():
        doubt = sample_at(maps, drawn)[:, 0].abs()
        best = doubt.topk(important, dim=1, largest=False).indices
    chosen = drawn.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, torch.cat(fresh).to(maps.device)], dim=1)


def _one_hot(targets: Targets) -> Tensor:
    """(N, 1, H, W) float targets: per picture its objects, then its background (no padding)."""
    rows: list[Tensor] = []
    for i, count in enumerate(targets.counts):
        label_map = targets.label_map[i]
        rows.extend(label_map == k for k in range(1, count + 1))
        rows.append((label_map == 0) & targets.valid[i])
    return torch.stack(rows)[:, None].float()


def _paper_terms(
    predictions: Sequence[Prediction],
    targets: Targets,
    config: LossConfig,
    fixed_points: Tensor | None,
) -> list[dict[str, Tensor]]:
    truth = _one_hot(targets)
    terms = []
    for prediction in predictions:
        fused, present = fuse_by_instance(prediction, targets.counts)
        maps = fused[present][:, None]
        if fixed_points is None:
            points = _importance_points(maps.detach(), targets, config)
        else:
            points = fixed_points
        logits = sample_at(maps, points)[:, 0]
        mask, dice = mask_and_dice(logits, sample_at(truth, points)[:, 0], None)
        terms.append({"mask": mask, "dice": dice})
    return terms


def _look_up(maps: Tensor, points: Tensor) -> Tensor:
    """Nearest values of (B, H, W) maps at (B, P, 2) points: (B, P)."""
    height, width = maps.shape[-2:]
    column = (points[..., 0] * width).long().clamp(0, width - 1)
    row = (points[..., 1] * height).long().clamp(0, height - 1)
    return maps.flatten(1).gather(1, row * width + column)


def _doubtful_points(fused: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """Points of small margin between the best two channels of the final prediction (B, P, 2)."""
    count = int(config.oversample * config.points)
    drawn = torch.stack([torch.rand(count, 2, generator=g) for g in targets.generators])
    drawn = drawn.to(fused.device)
    with torch.no_grad():
        best = sample_at(fused.detach(), drawn, "border").topk(2, dim=1).values
        margin = best[:, 0] - best[:, 1]
        chosen = margin.topk(int(config.importance * config.points), dim=1, largest=False).indices
    return drawn.gather(1, chosen[..., None].expand(-1, -1, 2))


def _click_points(clicks: Sequence[Tensor], targets: Targets, count: int, radius: float) -> Tensor:
    """Points scattered around random clicks of each picture (B, count, 2)."""
    height, width = targets.label_map.shape[-2:]
    size = torch.tensor([width, height], dtype=torch.float32)
    rows = []
    for yx, generator in zip(clicks, targets.generators, strict=True):
        which = torch.randint(len(yx), (count,), generator=generator)
        scatter = torch.randn(count, 2, generator=generator) * radius
        rows.append((yx.cpu().flip(-1)[which] + 0.5 + scatter) / size)
    return torch.stack(rows).clamp(0.0, 1.0 - 1e-6).to(targets.label_map.device)


def _click_weights(points: Tensor, clicks: Sequence[Tensor], size: Tensor, radius: float) -> Tensor:
    """exp(-d² / 2r²) of the distance to the nearest click, (B, P)."""
    rows = []
    for position, yx in zip(points, clicks, strict=True):
        distance = torch.cdist(position * size, yx.to(position.device).flip(-1) + 0.5)
        rows.append(distance.min(dim=1).values)
    return torch.exp(-torch.stack(rows).square() / (2.0 * radius**2))


def _shared_terms(
    predictions: Sequence[Prediction],
    targets: Targets,
    config: LossConfig,
    clicks: Sequence[Tensor],
) -> list[dict[str, Tensor]]:
    assert targets.points is not None
    final, present = fuse_by_instance(predictions[-1], targets.counts)
    parts = [targets.points]
    with torch.no_grad():
        if config.click_points:
            parts.append(
                _click_points(clicks, targets, config.click_points, config.click_radius_px)
            )
        if config.importance:
            parts.append(_doubtful_points(final, targets, config))
        points = torch.cat(parts, dim=1)
        owner = _look_up(targets.label_map, points).long()
        weights = _look_up(targets.valid, points).float()
        if config.click_weight:
            height, width = targets.label_map.shape[-2:]
            size = points.new_tensor([width, height])
            near = _click_weights(points, clicks, size, config.click_radius_px)
            weights = weights * (1.0 + config.click_weight * near)
        background = present.shape[1] - 1
        slot = torch.where(owner == 0, background, owner - 1)
        truth = F.one_hot(slot, background + 1).permute(0, 2, 1).float()
    terms = []
    for number, prediction in enumerate(predictions):
        is_final = number == len(predictions) - 1
        if is_final:
            end = points.shape[1]
            logits = sample_at(final, points, "border")
        else:
            # Sampling before fusing, as prediction does at full resolution, is also cheaper.
            end = min(config.auxiliary_points, points.shape[1])
            sampled = sample_at(prediction.logits.float(), points[:, :end], "border")
            logits = _fuse(sampled, prediction.channel_instance, targets.counts)[0]
        weight = weights[:, :end]
        mask, dice = mask_and_dice(
            logits[present],
            truth[:, :, :end][present],
            weight[:, None].expand_as(logits)[present],
        )
        term = {"mask": mask, "dice": dice}
        if config.softmax:
            entropy = F.cross_entropy(logits, slot[:, :end], reduction="none") * weight
            term["softmax"] = (entropy.sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)).mean()
        terms.append(term)
    return terms


def segmentation_loss(
    decoded: Decoded,
    targets: Targets,
    config: LossConfig = PAPER_LOSS,
    *,
    clicks: Sequence[Tensor] = (),
    normaliser: float | None = None,
    fixed_points: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss of a batch, deep supervision included.

    Parameters
    ----------
    decoded : Decoded
        Final and earlier predictions.
    targets : Targets
        The truth.
    clicks : sequence of (N, 2) Tensors
        Row and column of each picture's clicks; needed where the configuration weighs clicks.
    normaliser : float, optional
        Mean number of maps over all processes; that of this batch by default.
    fixed_points : (maps, P, 2) Tensor, optional
        Use these points for every prediction (``"paper"`` sampling only; for tests).

    Returns
    -------
    total : Tensor
        Scalar with gradient.
    terms : dict of Tensors
        Weighted terms, detached: ``mask``, ``dice``, ``softmax`` of the final prediction and
        ``mask_0`` … of the earlier ones.
    """
    earlier = list(enumerate(decoded.auxiliary))[:: -config.auxiliary_every][::-1]
    predictions = [prediction for _, prediction in earlier] + [decoded.final]
    names = [f"_{number}" for number, _ in earlier] + [""]
    if config.sampling == "paper":
        terms = _paper_terms(predictions, targets, config, fixed_points)
    else:
        terms = _shared_terms(predictions, targets, config, clicks)
    divisor = max(1.0, float(targets.maps if normaliser is None else normaliser))
    factors = {"mask": config.mask / divisor, "dice": config.dice / divisor}
    factors["softmax"] = config.softmax
    weighted: dict[str, Tensor] = {}
    for name, term in zip(names, terms, strict=True):
        share = config.auxiliary if name else 1.0
        for kind, value in term.items():
            weighted[kind + name] = value * (factors[kind] * share)
    total = torch.stack(list(weighted.values())).sum()
    return total, {key: value.detach() for key, value in weighted.items()}
